"""Lines of an export's files are found wherever blocks of reading end, and none is made up or lost."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from broker.adapters.export import lines
from broker.adapters.export.lines import Liner
from broker.errors import StorageUnavailable


@pytest.mark.parametrize("ending", [b"\n", b""])
@pytest.mark.parametrize("block", [1, 2, 7, 64])
def test_every_line_is_taken_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, ending: bytes
) -> None:
    monkeypatch.setattr(lines, "_READ_BYTES", block)
    chance = random.Random(block)
    expected = [b"x" * chance.choice((0, 1, 3, 9, 70)) for _ in range(60)] + [b"last"]
    path = tmp_path / "lines"
    path.write_bytes(b"\n".join(expected) + ending)
    for most in (1, 2, 5, 100):
        liner, found, places = Liner(path), list[bytes](), [0]
        while (taken := liner.take(most))[0]:
            count, stretch = taken
            assert stretch.begin == places[-1] and len(stretch.lines()) == count <= most
            places.append(stretch.begin + stretch.size)
            found += stretch.lines()
        assert liner.take(most)[0] == 0
        liner.close()
        assert found == expected
        assert places[-1] == path.stat().st_size


def test_a_file_without_lines(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"")
    liner = Liner(path)
    assert liner.take(10)[0] == 0
    liner.close()


def test_a_line_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "_READ_BYTES", 16)
    monkeypatch.setattr(lines, "LINE_BYTES", 40)
    path = tmp_path / "lines"
    path.write_bytes(b"a\n" + b"x" * 60 + b"\nb\n")
    liner = Liner(path)
    assert liner.take(1)[0] == 1
    with pytest.raises(StorageUnavailable, match="more than 40 bytes"):
        liner.take(1)
    liner.close()
