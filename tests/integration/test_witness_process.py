"""`entente witness` as programs: made, served, shown, and killed at any moment without forgetting what it cosigned."""

from __future__ import annotations

import asyncio
import json
import random
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.adapters.witness.http import HttpWitness
from broker.adapters.witness.state import FileWitnessStore
from broker.cli.app import run
from broker.core.checkpoint.cosignature import cosignature_time_s
from broker.core.checkpoint.note import SignedNote
from broker.ports.witness import WitnessFork, WitnessUnavailable
from tests.fakes.witnessed_log import WitnessedLog
from tests.services.ports import free_port
from tests.services.witness import NAME, WitnessProcess


def init(directory: Path, *options: str) -> int:
    """`entente witness init` with a name."""
    return run(["witness", "init", str(directory), "--name", NAME, *options])


async def test_a_witness_is_made_served_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log, silent = WitnessedLog().grow(9), WitnessedLog("exchange-1/silent")
    process = WitnessProcess(tmp_path / "w1", free_port(), [log, silent])
    try:
        ready = await asyncio.to_thread(process.start)
        assert ready == {
            "ready": True,
            "address": process.url.removeprefix("https://"),
            "name": NAME,
            "vkey": process.key.text(),
            "logs": 2,
        }
        client = process.client()
        line = await client.offer(log.update(0))
        await client.close()
        assert cosignature_time_s(SignedNote.parse(log.checkpoint() + line), process.key) is not None
        capsys.readouterr()
        assert run(["witness", "show", "--config", str(process.config), "-o", "json"]) == 0
        held, nothing = json.loads(capsys.readouterr().out)
        assert held.pop("since").startswith("20")
        root = log.checkpoint().decode().splitlines()[2]
        assert held == {"origin": log.origin, "size": 9, "root": root, "misfits": 0}
        assert nothing == {"origin": silent.origin, "size": None, "root": None, "since": None, "misfits": 0}
        assert run(["witness", "show", "--config", str(process.config), "-o", "table"]) == 0
        assert f"{log.origin}  9 " in capsys.readouterr().out
        config = ["--config", str(process.config)]
        assert run(["witness", "checkpoint", log.origin, *config]) == 0
        stated = SignedNote.parse(capsys.readouterr().out.encode())
        assert stated.is_signed_by(log.key)
        assert cosignature_time_s(stated, process.key) is not None
        assert run(["witness", "checkpoint", log.origin, *config, "-o", "json"]) == 0
        assert json.loads(capsys.readouterr().out)["note"].startswith(stated.text)
        assert run(["witness", "checkpoint", silent.origin, *config]) == 1
        assert run(["witness", "checkpoint", "exchange-1/absent", *config]) == 2
        assert capsys.readouterr().err.splitlines() == [
            "entente: exchange-1/silent: nothing is held of this log yet",
            "entente: exchange-1/absent: is no origin of the configuration; see 'entente witness show'",
        ]
    finally:
        assert process.stop() == 0
    assert "Traceback" not in process.log()


async def kill_and_go_on(tmp_path: Path, rounds: int) -> None:
    """A log grows as fast as its witness answers; the witness is killed in the middle, again and again."""
    log, state = WitnessedLog(), {"cosigned": 0}
    process = WitnessProcess(tmp_path / "w1", free_port(), [log])

    async def hand_over(client: HttpWitness) -> None:
        held = await client.held_size(log.origin, log.checkpoint())
        assert state["cosigned"] <= held <= log.size
        state["cosigned"] = held
        while True:
            log.grow(random.randint(1, 3))
            await client.offer(log.update(state["cosigned"]))
            state["cosigned"] = log.size

    for _ in range(rounds):
        await asyncio.to_thread(process.start)
        client, aim = process.client(), state["cosigned"] + random.randint(1, 60)
        work = asyncio.create_task(hand_over(client))
        while state["cosigned"] < aim and not work.done():  # noqa: ASYNC110 - the condition is over plain counters
            await asyncio.sleep(0)
        assert not work.done(), work.exception()
        process.kill()
        with pytest.raises(WitnessUnavailable):
            await work
        await client.close()
        await check_what_is_held(tmp_path, log, state["cosigned"])
    await asyncio.to_thread(process.start)
    client = process.client()
    other = log.fork(state["cosigned"] - 1).grow(5, "other")
    with pytest.raises(WitnessFork):
        await client.offer(other.update(await client.held_size(log.origin, log.checkpoint())))
    await client.close()
    assert process.stop() == 0


async def check_what_is_held(tmp_path: Path, log: WitnessedLog, cosigned: int) -> None:
    """Whole, of this log, and no less than the last cosignature says."""
    (file,) = await asyncio.to_thread(lambda: list((tmp_path / "w1" / "state").glob("*.checkpoint")))
    note = await asyncio.to_thread(file.read_bytes)
    size = int(note.splitlines()[1])
    assert note == log.checkpoint(size)
    assert size >= cosigned


async def test_what_was_cosigned_survives_kill_9(tmp_path: Path) -> None:
    await kill_and_go_on(tmp_path, rounds=6)


@pytest.mark.soak
@pytest.mark.timeout(900)
async def test_what_was_cosigned_survives_kill_9_often(tmp_path: Path) -> None:
    await kill_and_go_on(tmp_path, rounds=50)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--name", "two words"], "--name: "),
        (["--listen", "nowhere"], "--listen must be HOST:PORT"),
        (["--trust", "exchange-1"], "--trust is ORIGIN=FILE"),
        (["--trust", "exchange-1/broker=absent.vkey"], "absent.vkey: cannot be read"),
        (["--trust", "exchange-1/broker={witness}"], "holds no line of a log's public key"),
        (["--trust", "exchange-1/broker={garbage}"], "name the log's ledger.vkey"),
        (["--trust", "exchange-1/broker={empty}"], "holds no line of a log's public key"),
        (["--trust", f"{'x' * 201}={{log}}"], "at most 200"),
    ],
)
def test_arguments_that_cannot_be_used_make_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], says: str
) -> None:
    files = {name: tmp_path / f"{name}.vkey" for name in ("log", "witness", "garbage", "empty")}
    files["log"].write_text(f"{WitnessedLog().key.text()}\n")
    assert init(tmp_path / "other") == 0
    files["witness"].write_bytes((tmp_path / "other" / "witness.vkey").read_bytes())
    files["garbage"].write_bytes(b"\xff\xfe")
    files["empty"].touch()
    capsys.readouterr()
    filled = [option.format(**files) for option in options]
    assert init(tmp_path / "w1", *filled) == 2
    shown = capsys.readouterr()
    assert says in shown.err
    assert (shown.out, shown.err.count("\n")) == ("", 1)
    assert not (tmp_path / "w1").exists()


def test_a_directory_in_use_is_not_touched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert init(tmp_path / "w1") == 0
    before = {path: path.read_bytes() for path in (tmp_path / "w1").rglob("*") if path.is_file()}
    assert init(tmp_path / "w1") == 2
    assert "exists and is not an empty directory" in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in (tmp_path / "w1").rglob("*") if path.is_file()}


def test_what_init_makes_is_private(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert init(tmp_path / "w1") == 0
    made = json.loads(capsys.readouterr().out)
    assert (tmp_path / "w1" / "witness.vkey").read_text() == f"{made['vkey']}\n"
    for secret in ("witness.key", "tls/server.key", "state"):
        assert (tmp_path / "w1" / secret).stat().st_mode & 0o077 == 0
    assert not (tmp_path / "w1" / "tls" / "ca.key").exists()


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody else listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


@pytest.mark.parametrize(
    ("spoil", "says", "code"),
    [
        ("key is open", "other users may read or write it", 1),
        ("key is cut", "is no key of a witness", 1),
        ("tls key is open", "other users may read or write it", 1),
        ("certificate is garbage", "is not the certificate of", 1),
        ("state is damaged", "what is held of exchange-1/broker", 1),
        ("state is in use", "in use by another witness", 1),
        ("address is in use", "Address already in use", 1),
        ("config is absent", "make one with 'entente witness init DIR'", 2),
    ],
)
def test_a_witness_that_is_not_what_it_was_does_not_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], taken: int, spoil: str, says: str, code: int
) -> None:
    log, other = WitnessedLog().grow(3), FileWitnessStore(tmp_path / "w1" / "state")
    vkey = tmp_path / "log.vkey"
    vkey.write_text(f"{log.key.text()}\n")
    directory = tmp_path / "w1"
    assert init(directory, "--trust", f"{log.origin}={vkey}", "--listen", "127.0.0.1:1") == 0
    capsys.readouterr()
    if spoil == "key is open":
        (directory / "witness.key").chmod(0o644)
    elif spoil == "key is cut":
        (directory / "witness.key").write_bytes(b"AAAA\n")
    elif spoil == "tls key is open":
        (directory / "tls" / "server.key").chmod(0o640)
    elif spoil == "certificate is garbage":
        (directory / "tls" / "server.pem").write_bytes(b"garbage")
    elif spoil == "state is in use":
        other.open_for_writing()
    elif spoil == "address is in use":
        file = directory / "witness.toml"
        file.write_text(file.read_text().replace("127.0.0.1:1", f"127.0.0.1:{taken}"))
    elif spoil == "config is absent":
        (directory / "witness.toml").unlink()
    else:
        (directory / "state" / "exchange-1%2Fbroker.checkpoint").write_bytes(log.checkpoint()[:-20])
    assert run(["witness", "serve", "--config", str(directory / "witness.toml")]) == code
    other.close()
    shown = capsys.readouterr()
    assert says in shown.err
    assert (shown.out, shown.err.count("\n")) == ("", 1)
