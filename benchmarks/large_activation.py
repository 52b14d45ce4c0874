"""What it takes to change a large rulebook on a running exchange, by its commands: propose, check, approve, activate.

Run: `python -m benchmarks.large_activation [--agencies N] [--agreements N]`. For each step: the processor time of the
command, the broker and all that it starts; how long it took; and the most memory of all of these together, looked at each
100 ms. The exchange is embedded (SQLite). What is changed is a topic's description: all the rest is as before.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from benchmarks.made_rulebook import Size, make_rulebook
from broker.core.rulebook.load import read_rulebook
from broker.core.rulebook.pack import pack
from tests.services.broker import ENTENTE, BrokerProcess

_LOOK_S = 0.1
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_TOPICS = "data/topics/data.yaml"


class Family:
    """This process and all that it started, whoever started them: their processor time and memory."""

    def __init__(self) -> None:
        self._used: dict[int, float] = {}
        self.peak_mb = 0
        self._over = threading.Event()
        self._looking = threading.Thread(target=self._look, daemon=True)
        self._looking.start()

    def used_s(self) -> float:
        """Processor time so far, of those that have ended as well as it was last seen."""
        return sum(list(self._used.values()))

    def close(self) -> None:
        """Look no more."""
        self._over.set()
        self._looking.join()

    def _look(self) -> None:
        while not self._over.wait(_LOOK_S):
            resident = 0
            for pid in _descendants(os.getpid()):
                try:
                    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                except OSError:
                    continue
                self._used[pid] = (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
                resident += int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
            self.peak_mb = max(self.peak_mb, resident >> 20)


def _descendants(pid: int) -> Iterator[int]:
    """Without `pid` itself, whose files are the benchmark's."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(each) for task in tasks for each in (task / "children").read_text().split()]
    except OSError:
        return
    for child in children:
        yield child
        yield from _descendants(child)


@contextmanager
def step(name: str, family: Family) -> Iterator[None]:
    """Print what the steps inside took."""
    used_s, start_s, family.peak_mb = family.used_s(), time.perf_counter(), 0
    yield
    time.sleep(2 * _LOOK_S)
    used_s, elapsed_s = family.used_s() - used_s, time.perf_counter() - start_s
    print(f"{name:28} {used_s:8.1f} s {elapsed_s:8.1f} s elapsed {family.peak_mb:7} MB at most", flush=True)


def main() -> None:
    """Print a line for each step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agencies", type=int, default=18_000)
    parser.add_argument("--agreements", type=int, default=1_000_000)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="entente-bench-") as name:
        directory, family = Path(name), Family()
        broker = BrokerProcess(directory / "exchange")
        # The keys of its own agencies stay: the commands sign their tokens with them.
        own = read_rulebook(broker.directory / "rulebook").files
        made = make_rulebook(Size.of(chosen.agencies, chosen.agreements))
        _lay_out(broker.directory / "rulebook", {path: made[path] for path in made if path not in own})
        _lay_out(broker.directory / "rulebook", {_TOPICS: made[_TOPICS]})
        try:
            with step("first start of the broker", family):
                broker.start()
            archive = _changed(broker.directory / "rulebook", directory / "rulebook.tar.gz")
            _change(broker, archive, family)
        finally:
            broker.stop()
            family.close()


def _change(broker: BrokerProcess, archive: Path, family: Family) -> None:
    with step("propose, and all checks", family):
        proposal = _entente(broker, "admin-1", "propose", str(archive), "--message", "clearer")
    assert proposal["state"] == "open", proposal
    revision = str(proposal["revision"])
    with step("approve", family):
        _entente(broker, "admin-2", "approve", str(proposal["id"]), "--revision", revision)
    with step("activate", family):
        activated = _entente(broker, "admin-1", "activate", str(proposal["id"]))
    print(f"  {activated}")
    with step("look at what is in force", family):
        assert _entente(broker, "admin-1", "status")["revision"] == revision


def _entente(broker: BrokerProcess, context: str, *arguments: str) -> Mapping[str, object]:
    """What the command prints first."""
    command = [ENTENTE, "rulebook", *arguments, "--config", broker.file, "--context", context, "-o", "jsonl"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout[:2_000]}{done.stderr[:2_000]}"
    found: dict[str, object] = json.loads(done.stdout.splitlines()[0])
    return found


def _lay_out(directory: Path, files: Mapping[str, bytes]) -> None:
    for path, content in files.items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_bytes(content)


def _changed(rulebook: Path, archive: Path) -> Path:
    files = dict(read_rulebook(rulebook).files)
    changed = files[_TOPICS].replace(b"description: Records,", b"description: What offices report,", 1)
    assert changed != files[_TOPICS]
    with archive.open("wb") as into:
        pack({**files, _TOPICS: changed}, into)
    return archive


if __name__ == "__main__":
    main()
