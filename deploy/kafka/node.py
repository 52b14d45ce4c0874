"""One real Kafka node (KRaft, broker and controller in one process) for tests and for hand use.

It needs Java 17 and the jars that `make setup-test` puts into .tools/kafka/libs; nothing outside Python's standard library.
It listens on loopback without TLS and keeps one replica: never a node for production.

    python deploy/kafka/node.py run   --data .tools/kafka/data --port 9092     in the foreground, Ctrl-C stops it
    python deploy/kafka/node.py start --data .tools/kafka/data --port 9092     in the background, DATA/kafka.pid
    python deploy/kafka/node.py stop  --data .tools/kafka/data
    python deploy/kafka/node.py archive                                        once: nodes then start in half the time
"""

from __future__ import annotations

import argparse
import base64
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
LIBS = HERE.parents[1] / ".tools" / "kafka" / "libs"
CLASSES = LIBS.with_name("classes.jsa")
"""What Java has loaded of the jars (class data sharing). Java ignores it once it, or a jar, is another."""
_POLL_S = 0.05
_API_VERSIONS, _METADATA = 18, 3


class KafkaUnavailable(Exception):
    """The node cannot run here or did not come up; the text says in one line what to do."""


class KafkaNode:
    """One node with fixed ports and a data directory, so that it can be stopped, killed and started again.

    `settings` are added to (and win over) the server properties written at the first start; `java_options` stand
    before the program on Java's command line.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        port: int,
        controller_port: int,
        heap_mb: int = 512,
        settings: Mapping[str, str] | None = None,
        java_options: Sequence[str] = (),
    ) -> None:
        self.data_dir = data_dir
        self.port = port
        self.controller_port = controller_port
        self._heap_mb = heap_mb
        self._settings = dict(settings or {})
        self._java_options = tuple(java_options)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        """The address for a client's `bootstrap_servers`."""
        return f"127.0.0.1:{self.port}"

    @property
    def log_path(self) -> Path:
        """Where the node's own log goes."""
        return self.data_dir / "kafka.log"

    @property
    def running(self) -> bool:
        """Whether the process that `start` began is alive."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process id; raises KafkaUnavailable if the node is not running."""
        if self._process is None or self._process.poll() is not None:
            raise KafkaUnavailable("the Kafka node is not running; call start() first")
        return self._process.pid

    def start(self, timeout_s: float = 60.0) -> None:
        """Start the node and return when it serves requests; does nothing if it runs.

        Raises KafkaUnavailable if Java or the jars are missing, or if it does not come up in time.
        """
        if self.running:
            return
        self._format_once(timeout_s)
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self._command(self._heap_mb, "kafka.Kafka", str(self._properties_path)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._wait_until_ready(timeout_s)

    def stop(self, timeout_s: float = 30.0) -> None:
        """Shut down in order (SIGTERM), and kill what has not ended after `timeout_s` seconds."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self.resume()
            self._process.terminate()
            try:
                self._process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()
        self._process = None

    def kill(self) -> None:
        """End the process at once (SIGKILL), as a crash would; the data stay for the next start."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Freeze the process (SIGSTOP): connections stay open, nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen process go on (SIGCONT)."""
        os.kill(self.pid, signal.SIGCONT)

    def restart(self, timeout_s: float = 60.0) -> None:
        """Stop in order and start again with the same ports and data."""
        self.stop()
        self.start(timeout_s)

    def wait(self) -> int:
        """Wait for the process to end and return its exit status."""
        if self._process is None:
            raise KafkaUnavailable("the Kafka node is not running; call start() first")
        return self._process.wait()

    @property
    def _properties_path(self) -> Path:
        return self.data_dir / "server.properties"

    def _command(self, heap_mb: int, main_class: str, *arguments: str) -> list[str]:
        return java_command(heap_mb, main_class, *arguments, java_options=self._java_options)

    def _format_once(self, timeout_s: float) -> None:
        self.data_dir.mkdir(parents=True, exist_ok=True)
        properties = server_properties(self.data_dir, self.port, self.controller_port) | self._settings
        self._properties_path.write_text("".join(f"{key}={value}\n" for key, value in properties.items()))
        if (self.data_dir / "log" / "meta.properties").exists():
            return
        arguments = ["format", "--cluster-id", _cluster_id(), "--config", str(self._properties_path)]
        done = subprocess.run(
            self._command(128, "kafka.tools.StorageTool", *arguments),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if done.returncode != 0:
            reason = (done.stdout + done.stderr).strip().splitlines()[-1:]
            raise KafkaUnavailable(f"Kafka's storage could not be formatted in {self.data_dir}: {reason}")

    def _wait_until_ready(self, timeout_s: float) -> None:
        give_up_at = time.monotonic() + timeout_s
        while not is_ready(self.port):
            if not self.running:
                self._process = None
                raise KafkaUnavailable(f"the Kafka node ended while starting; see {self.log_path}")
            if time.monotonic() > give_up_at:
                self.kill()
                raise KafkaUnavailable(
                    f"the Kafka node did not answer in {timeout_s:.0f} s; see {self.log_path}"
                )
            time.sleep(_POLL_S)


def java_command(
    heap_mb: int, main_class: str, *arguments: str, java_options: Sequence[str] = ()
) -> list[str]:
    """The command line of one of Kafka's programs; raises KafkaUnavailable if Java or the jars are missing."""
    java = shutil.which("java")
    if java is None:
        raise KafkaUnavailable("java was not found on PATH; install a Java 17 runtime")
    if not any(LIBS.glob("kafka_2.13-*.jar")):
        raise KafkaUnavailable(f"Kafka's jars are not in {LIBS}; run `make setup-test`")
    return [
        java,
        f"-Xmx{heap_mb}m",
        "-XX:+UseSerialGC",
        "-XX:+ExitOnOutOfMemoryError",
        *([f"-XX:SharedArchiveFile={CLASSES}"] if CLASSES.exists() else []),
        *java_options,
        f"-Dlog4j2.configurationFile={HERE / 'log4j2.properties'}",
        "-cp",
        f"{LIBS}/*",
        main_class,
        *arguments,
    ]


def archive_classes() -> None:
    """Write CLASSES, from a node that is started for it; raises KafkaUnavailable as `KafkaNode.start` does."""
    CLASSES.unlink(missing_ok=True)
    written = CLASSES.with_suffix(".new")
    with tempfile.TemporaryDirectory() as data, socket.socket() as one, socket.socket() as other:
        for each in (one, other):
            each.bind(("127.0.0.1", 0))
        port, controller_port = (each.getsockname()[1] for each in (one, other))
        one.close()
        other.close()
        option = f"-XX:ArchiveClassesAtExit={written}"
        node = KafkaNode(Path(data), port=port, controller_port=controller_port, java_options=(option,))
        node.start()
        node.stop(timeout_s=120.0)
    if not written.exists():
        raise KafkaUnavailable(f"Java did not write {written}; it has to be a HotSpot of version 17 or newer")
    written.replace(CLASSES)


def server_properties(data_dir: Path, port: int, controller_port: int) -> dict[str, str]:
    """The properties of a single combined node: loopback only, one replica, no topics made by accident."""
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"CLIENT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"CLIENT://127.0.0.1:{port}",
        "inter.broker.listener.name": "CLIENT",
        "listener.security.protocol.map": "CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": str(data_dir / "log"),
        "auto.create.topics.enable": "false",
        "unclean.leader.election.enable": "false",
        "default.replication.factor": "1",
        "min.insync.replicas": "1",
        # one partition each: fifty would be opened at every start
        "offsets.topic.num.partitions": "1",
        "offsets.topic.replication.factor": "1",
        "transaction.state.log.num.partitions": "1",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "share.coordinator.state.topic.num.partitions": "1",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        # a group's offsets would otherwise be forgotten after 7 days without members
        "offsets.retention.minutes": "525600",
        "group.initial.rebalance.delay.ms": "0",
        # after a crash the node is let in again once its former session has ended (9 s by default)
        "broker.session.timeout.ms": "3000",
        "broker.heartbeat.interval.ms": "500",
        "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
        "num.network.threads": "2",
        "num.io.threads": "4",
    }


def is_ready(port: int, timeout_s: float = 2.0) -> bool:
    """Whether the node on loopback `port` lists a broker in its metadata, that is, takes part in the cluster."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as connection:
            error = _exchange(connection, _API_VERSIONS, 0, b"")[:2]
            if error != b"\x00\x00":
                return False
            brokers = _exchange(connection, _METADATA, 1, struct.pack(">i", 0))[:4]
            return len(brokers) == 4 and struct.unpack(">i", brokers)[0] >= 1
    except OSError:
        return False


def _exchange(connection: socket.socket, api: int, version: int, body: bytes) -> bytes:
    """Send one request with header version 1 (Kafka protocol guide) and return the answer's body."""
    request = struct.pack(">hhih", api, version, 1, -1) + body
    connection.sendall(struct.pack(">i", len(request)) + request)
    size = struct.unpack(">i", _read_exactly(connection, 4))[0]
    return _read_exactly(connection, size)[4:]


def _read_exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise ConnectionResetError("the node closed the connection")
        data += part
    return data


def _cluster_id() -> str:
    """A random id; the first byte's top bits are cleared, since a leading "-" would be taken for an option."""
    raw = uuid.uuid4().bytes
    return base64.urlsafe_b64encode(bytes([raw[0] & 0x3F]) + raw[1:]).decode().rstrip("=")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, start or stop a node from the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="One Kafka node on loopback, for development.")
    parser.add_argument("action", choices=["run", "start", "stop", "archive"])
    parser.add_argument(
        "--data", type=Path, help="directory of the node's data, log and pid file; not for archive"
    )
    parser.add_argument("--port", type=int, default=9092)
    parser.add_argument("--controller-port", type=int, default=9093)
    parser.add_argument("--heap-mb", type=int, default=512)
    options = parser.parse_args(arguments)
    if options.action != "archive" and options.data is None:
        parser.error("--data is required")
    try:
        if options.action == "archive":
            archive_classes()
            return 0
        pid_path = options.data / "kafka.pid"
        if options.action == "stop":
            print("Kafka has stopped" if stop(pid_path) else "Kafka is not running here")
            return 0
        node = KafkaNode(
            options.data.resolve(),
            port=options.port,
            controller_port=options.controller_port,
            heap_mb=options.heap_mb,
        )
        return _run(node, pid_path, foreground=options.action == "run")
    except KafkaUnavailable as error:
        print(error, file=sys.stderr)
        return 1


def _run(node: KafkaNode, pid_path: Path, *, foreground: bool) -> int:
    if is_ready(node.port):
        raise KafkaUnavailable(f"port {node.port} already serves Kafka; stop it or choose another --port")
    node.start()
    pid_path.write_text(f"{node.pid}\n")
    print(f"Kafka is ready on {node.bootstrap} (process {node.pid}, log {node.log_path})")
    if not foreground:
        return 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return node.wait()
    except KeyboardInterrupt:
        node.stop()
        return 0
    finally:
        pid_path.unlink(missing_ok=True)


def stop(pid_path: Path, timeout_s: float = 30.0) -> bool:
    """Shut down the node whose process id is in a file, whoever started it; whether there was one.

    Raises KafkaUnavailable if it has not ended after `timeout_s` seconds.
    """
    if not pid_path.exists():
        return False
    pid = int(pid_path.read_text())
    give_up_at = time.monotonic() + timeout_s
    if _is_this_node(pid):
        os.kill(pid, signal.SIGTERM)
    while _is_this_node(pid):
        if time.monotonic() > give_up_at:
            raise KafkaUnavailable(
                f"process {pid} did not end in {timeout_s:.0f} s; look at it before you kill it"
            )
        time.sleep(_POLL_S)
    pid_path.unlink(missing_ok=True)
    return True


def _is_this_node(pid: int) -> bool:
    """Whether the process still is a Kafka node: after a reboot its number may belong to another program."""
    if Path("/proc/self/cmdline").exists():
        try:
            # empty for a process that has ended and was not waited for
            return b"kafka.Kafka" in Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return False
    done = subprocess.run(
        ["ps", "-o", "stat=,args=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return "kafka.Kafka" in done.stdout and not done.stdout.lstrip().startswith("Z")


if __name__ == "__main__":
    sys.exit(main())
