"""A JSONL file is read line by line whatever it holds, from any line on, and in bounded pieces."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.files.disk import NoPlainFile
from connectors.files.pieces import FileChanged, Piece, PieceReader

MOST = 6
CONTENT = st.lists(st.sampled_from([b"\n", b"\r\n", b"a", b"bcde", b" ", b"\xff", b"\x00", b"x" * 9])).map(
    b"".join
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pieces") / "a.jsonl"


def read(path: Path, most_records: int, most_bytes: int, after: Piece | None = None) -> list[Piece]:
    """All pieces, read in portions, from behind a piece on."""
    found: list[Piece] = []
    with PieceReader(path, "jsonl", MOST) as reader:
        if after is not None:
            reader.skip(after.line, after.end)
        while portion := reader.read(most_records, most_bytes):
            assert len(portion) <= most_records
            found += portion
    return found


def lines_of(content: bytes) -> list[tuple[int, bytes]]:
    """Numbered lines that hold more than white space, without their ends."""
    numbered = enumerate(content.split(b"\n"), start=1)
    return [(number, line.removesuffix(b"\r")) for number, line in numbered if line.strip()]


@given(CONTENT, st.integers(1, 4), st.integers(1, 20))
def test_pieces_are_the_lines(path: Path, content: bytes, most_records: int, most_bytes: int) -> None:
    path.write_bytes(content)
    found = read(path, most_records, most_bytes)
    expected = [(number, line if len(line) <= MOST else None) for number, line in lines_of(content)]
    assert [(piece.line, piece.data) for piece in found] == expected
    for piece, (_, line) in zip(found, lines_of(content), strict=True):
        assert content[piece.start : piece.end].rstrip(b"\r\n") == line.rstrip(b"\r")
    for number, piece in enumerate(found):
        assert read(path, most_records, most_bytes, piece) == found[number + 1 :]
        with PieceReader(path, "jsonl", MOST) as reader:
            assert reader.pass_over(piece.line) == piece.end


def test_a_file_that_is_cut_off_or_gone_has_changed(path: Path) -> None:
    path.write_bytes(b"a\n" * 100_000)
    for change in (lambda: path.write_bytes(b"a\n"), path.unlink):
        with PieceReader(path, "jsonl", MOST) as reader:
            reader.read(1, 1)
            change()
            with pytest.raises(FileChanged):
                while reader.read(1_000, 1_000_000):
                    pass


def test_what_is_no_plain_file_is_not_opened() -> None:
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "link.json").symlink_to("/etc/hostname")
        for path in (Path(directory), Path(directory) / "link.json", Path("/dev/zero")):
            with pytest.raises(NoPlainFile):
                PieceReader(path, "json", MOST)
        with pytest.raises(FileNotFoundError):
            PieceReader(Path(directory) / "none.json", "json", MOST)
