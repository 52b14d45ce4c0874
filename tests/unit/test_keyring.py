"""Secret keys in files: reading, rotation, refusals."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from broker.adapters.clock import SystemClock
from broker.adapters.keyring import USES, FileKeys, KeysRefused, new_key_file


def key(key_id: int, created: str = "2026-01-01T00:00:00Z", retired: str | None = None) -> dict[str, object]:
    text = base64.b64encode(bytes([key_id]) * 32).decode()
    return {"id": key_id, "key": text, "created": created, "retired": retired}


def write(directory: Path, content: object, use: str = "cursor", mode: int = 0o600) -> None:
    path = directory / f"{use}.keys"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    path.chmod(mode)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for use in USES:
        write(tmp_path, new_key_file(1_800_000_000_000), use)
    return tmp_path


def test_fresh_files_hold_different_keys(directory: Path) -> None:
    keys = FileKeys.open(directory)
    key_id, cursor = keys.current("cursor")
    assert key_id == 0
    assert len(cursor) == 32
    assert cursor != keys.current("pseudonym")[1]
    assert keys.by_id("cursor", 0) == cursor
    assert keys.by_id("cursor", 1) is None


def test_the_newest_key_that_is_not_retired_is_current_and_retired_ones_stay(directory: Path) -> None:
    write(
        directory,
        [
            key(7, "2026-03-01T00:00:00Z"),
            key(3, "2026-02-01T00:00:00Z"),
            key(9, "2026-04-01T00:00:00Z", retired="2026-05-01T00:00:00Z"),
        ],
    )
    keys = FileKeys.open(directory)
    assert keys.current("cursor") == (7, bytes([7]) * 32)
    assert keys.by_id("cursor", 9) == bytes([9]) * 32
    assert keys.by_id("cursor", 3) == bytes([3]) * 32
    assert keys.by_id("pseudonym", 9) is None


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o602, 0o601])
def test_a_file_that_others_may_use_is_refused(directory: Path, mode: int) -> None:
    (directory / "pseudonym.keys").chmod(mode)
    with pytest.raises(KeysRefused, match=r"pseudonym\.keys: other users"):
        FileKeys.open(directory)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}x",
        b"\xff",
        {},
        {"id": 1},
        [],
        [1],
        [[]],
        ["x"],
        [{}],
        [key(1), key(1)],
        [key(1, retired="2026-01-02T00:00:00Z")],
        [{**key(1), "id": True}],
        [{**key(1), "id": 256}],
        [{**key(1), "id": -1}],
        [{**key(1), "id": "1"}],
        [{**key(1), "key": "AAAA"}],
        [{**key(1), "key": "!!!!"}],
        [{**key(1), "key": 7}],
        [{**key(1), "created": "yesterday"}],
        [{**key(1), "created": "2026-01-01T00:00:00"}],
        [{**key(1), "created": None}],
        [{**key(1), "extra": 1}],
        [{"id": 1, "key": "", "created": ""}],
        b"[" * 100_000,
        b" " * 300_000,
    ],
)
def test_a_damaged_file_is_refused_in_one_line_without_its_content(directory: Path, content: object) -> None:
    write(directory, content)
    with pytest.raises(KeysRefused) as caught:
        FileKeys.open(directory)
    text = str(caught.value)
    assert str(directory / "cursor.keys") in text
    assert "\n" not in text
    assert "AQEBAQ" not in text


def test_a_missing_file_and_a_directory_are_refused(directory: Path) -> None:
    (directory / "cursor.keys").unlink()
    with pytest.raises(KeysRefused, match="No such file"):
        FileKeys.open(directory)
    (directory / "cursor.keys").mkdir(mode=0o700)
    with pytest.raises(KeysRefused, match="no plain file"):
        FileKeys.open(directory)


def test_the_clock_never_steps_back(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SystemClock()
    before = clock.now_ms()
    monkeypatch.setattr("broker.adapters.clock.time.time_ns", lambda: 0)
    assert clock.now_ms() == before
    assert clock.monotonic_s() <= clock.monotonic_s()
