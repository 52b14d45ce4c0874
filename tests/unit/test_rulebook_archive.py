"""Rulebooks that come packed, from people who may want to harm whoever reads them."""

from __future__ import annotations

import gzip
import io
import resource
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from broker.core.rulebook import archive, load
from broker.core.rulebook.archive import read_archive, read_directory_or_archive
from broker.core.rulebook.load import read_rulebook
from broker.errors import RulebookRefused
from tests.fakes.rulebook import ROOT, scripted_rulebook

FILES = scripted_rulebook({}).files
Entries = Iterable[tuple[tarfile.TarInfo, bytes]]


def entry(name: str, content: bytes = b"", **changes: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in changes.items():
        setattr(info, key, value)
    return info, content


def pack(path: Path, entries: Entries, form: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, "w:gz", format=form) as packed:
        for info, content in entries:
            packed.addfile(info, io.BytesIO(content))
    return path


def files(prefix: str = "") -> list[tuple[tarfile.TarInfo, bytes]]:
    return [entry(prefix + name, content) for name, content in FILES.items()]


def refusal(path: Path) -> str:
    with pytest.raises(RulebookRefused) as refused:
        read_archive(path)
    assert all("\n" not in finding and "; " in finding for finding in refused.value.findings)
    assert len(refused.value.findings) <= 101
    return "\n".join(refused.value.findings)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("prefix", ["", "./"])
def test_packed_files_are_the_same_revision(tmp_path: Path, prefix: str, form: int) -> None:
    folder = entry(f"{prefix}entente", type=tarfile.DIRTYPE)
    packed = pack(tmp_path / "rulebook.tar.gz", [folder, *files(prefix)], form)

    assert read_archive(packed) == read_directory_or_archive(packed) == scripted_rulebook({})


def test_the_default_rulebook_packed_by_tar_is_the_same_revision(tmp_path: Path) -> None:
    packed = tmp_path / "rulebook.tar.gz"
    with tarfile.open(packed, "w:gz") as writer:
        writer.add(
            ROOT / "policy", arcname=".", filter=lambda info: None if "__pycache__" in info.name else info
        )

    assert read_archive(packed).id == read_directory_or_archive(ROOT / "policy").id
    assert read_rulebook(ROOT / "policy").id == read_archive(packed).id


LONG = "entente/" + "x" * 90 + "/" + "y" * 90 + ".rego"

HOSTILE: dict[str, tuple[Callable[[], Entries], str]] = {
    "an absolute name": (lambda: [entry("/entente/x.rego")], "/entente/x.rego: has an absolute name"),
    "a way out": (lambda: [entry("entente/../../x.rego")], "entente/../../x.rego: leads out"),
    "a way out first": (lambda: [entry("../x.rego")], "../x.rego: leads out"),
    "a symbolic link": (
        lambda: [entry("entente/x.rego", type=tarfile.SYMTYPE, linkname="/etc/passwd")],
        "entente/x.rego: is neither a plain file",
    ),
    "a hard link": (
        lambda: [entry("entente/x.rego", type=tarfile.LNKTYPE, linkname="manifest.yaml")],
        "entente/x.rego: is neither a plain file",
    ),
    "a device": (lambda: [entry("entente/x.rego", type=tarfile.CHRTYPE)], "is neither a plain file"),
    "a pipe": (lambda: [entry("entente/x.rego", type=tarfile.FIFOTYPE)], "is neither a plain file"),
    "a file twice": (
        lambda: [entry("manifest.yaml", b"time_dependent: true")],
        "manifest.yaml: stands twice",
    ),
    "a file twice, otherwise spelt": (lambda: [entry("./manifest.yaml")], "manifest.yaml: stands twice"),
    "one root twice": (
        lambda: [entry("data/topics/data.json", b"{}")],
        "data/topics/data.json: does not belong",
    ),
    "OPA's manifest": (
        lambda: [entry(".manifest", b'{"roots": [""]}')],
        ".manifest: is not part of a rulebook",
    ),
    "a name that is no text": (lambda: [entry("entente/\udcff.rego")], "is not part of a rulebook"),
    "a name with a line break": (lambda: [entry("entente/x\n.rego")], "entente/x\\n.rego: is not part"),
    "a name in capitals": (lambda: [entry("agencies/EMS/module.rego")], "is not part of a rulebook"),
    "a long misplaced name": (lambda: [entry(f"elsewhere/{LONG}")], "is not part of a rulebook"),
    "a sparse file": (
        lambda: [entry("entente/x.rego", pax_headers={"GNU.sparse.size": "9", "GNU.sparse.map": "0,1"})],
        "is neither a plain file",
    ),
    "ten thousand files": (
        lambda: [entry(f"agencies/ems/m{number}.rego") for number in range(10_000)],
        "agencies/ems: holds 10000 files",
    ),
    "a header of two megabytes": (
        lambda: [entry("entente/x.rego", pax_headers={"comment": "x" * 2_000_000})],
        "is no tar.gz that can be read",
    ),
}


@pytest.mark.parametrize("case", HOSTILE.values(), ids=HOSTILE.keys())
def test_what_no_rulebook_holds_is_refused_by_name(
    tmp_path: Path, case: tuple[Callable[[], Entries], str]
) -> None:
    entries, said = case

    assert said in refusal(pack(tmp_path / "rulebook.tar.gz", [*files(), *entries()]))


def test_a_long_name_of_a_rulebook_is_read(tmp_path: Path) -> None:
    packed = pack(
        tmp_path / "rulebook.tar.gz", [*files(), entry(LONG, b"package entente.x")], tarfile.GNU_FORMAT
    )

    assert LONG in read_archive(packed).files


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    """Two gigabytes of zeros in two megabytes: no more than the limit is unpacked, and most of it never in memory."""
    bomb = tmp_path / "rulebook.tar.gz"
    chunk = gzip.compress(bytes(64 * 1024 * 1024), compresslevel=1)
    bomb.write_bytes(chunk * 32)
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    assert "more than" in refusal(bomb)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 256 * 1024


def test_sizes_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = pack(tmp_path / "rulebook.tar.gz", [*files(), entry("data/large/data.yaml", b"#" * 50_000)])
    with monkeypatch.context() as patch:
        patch.setattr(load, "FILE_LIMITS_BYTES", {"data": 40_000})
        assert "data/large/data.yaml: is larger" in refusal(packed)
    with monkeypatch.context() as patch:
        patch.setattr(archive, "FILES_LIMIT", 3)
        assert "or 100000 files" in refusal(packed)
    monkeypatch.setattr(archive, "TOTAL_LIMIT_BYTES", 40_000)
    assert "more than" in refusal(packed)


def _cut(packed: bytes) -> bytes:
    return packed[: len(packed) // 2]


def _flipped(packed: bytes) -> bytes:
    middle = len(packed) // 2
    return packed[:middle] + bytes([packed[middle] ^ 0xFF]) + packed[middle + 1 :]


@pytest.mark.parametrize("spoil", [_cut, _flipped, lambda _: b"", lambda _: b"PK\x03\x04", gzip.decompress])
def test_what_cannot_be_read_is_one_finding(tmp_path: Path, spoil: Callable[[bytes], bytes]) -> None:
    packed = pack(tmp_path / "rulebook.tar.gz", files())
    packed.write_bytes(spoil(packed.read_bytes()))

    assert refusal(packed).startswith(f"{packed}: is no tar.gz that can be read")
