"""`entente rulebook pull`: a revision as a directory, for any editor and any version control."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.command import call, shared_options
from broker.cli.rulebook.proposed import whole
from broker.cli.settings import Given
from connectors.cli.failures import CommandFailed, ExitCode
from connectors.cli.output import OutputFormat, choose_format, show_one, write_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from connectors.client import Client
    from protos.entente.v1 import rulebook_pb2 as pb


@shared_options
def pull(
    given: Given,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where to put the files.")],
    revision: Annotated[
        str | None, typer.Option(metavar="REVISION", help="Default: the one in force.")
    ] = None,
    proposal: Annotated[
        str | None, typer.Option(metavar="ID", help="The files of a proposal instead.")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="DIR holds a rulebook: put this one in its place.")
    ] = False,
) -> None:
    """Write the files of a revision that you may see into a directory.

    Edit them there, and propose the directory. An agency's administrators get their agency's part and the exchange's public
    rules. Version control's own files beside them stay as they are.
    """
    if revision is not None and proposal is not None:
        raise CommandFailed("--revision and --proposal exclude each other; leave one out", ExitCode.USAGE)
    _require_room(directory, replace=replace)
    with tempfile.TemporaryDirectory(prefix="entente-pull-") as folder:
        archive = Path(folder) / "rulebook.tar.gz"

        async def fetch(client: Client) -> pb.PullRevisionResponse:
            wanted = ""
            if revision is not None:
                wanted = whole(revision, [each.revision for each in await client.rulebook.log(200)])
            with archive.open("wb") as file:
                return await client.rulebook.pull(file, revision=wanted, proposal=proposal or "")

        pulled = call(given, fetch)
        files = _read(archive)
    _write(directory, files, replace=replace)
    form = choose_format(given.output)
    if form is OutputFormat.TABLE:
        write_line(f"{directory}: {len(files)} files of {pulled.revision}")
        if pulled.own:
            write_line(f"yours to change: {', '.join(pulled.own)}")
    else:
        shown = {"directory": str(directory), "revision": pulled.revision, "files": len(files)}
        show_one(form, {**shown, "own": list(pulled.own)})


def _require_room(directory: Path, *, replace: bool) -> None:
    """Raises CommandFailed (usage) before anything is fetched."""
    if not directory.exists():
        return
    if not directory.is_dir():
        raise CommandFailed(f"{directory}: is no directory; name another place", ExitCode.USAGE)
    is_rulebook = (directory / "manifest.yaml").is_file()
    if any(not entry.name.startswith(".") for entry in directory.iterdir()) and not (replace and is_rulebook):
        remedy = "say --replace" if is_rulebook else "name a new one"
        raise CommandFailed(f"{directory}: is not empty; {remedy}", ExitCode.USAGE)


def _read(archive: Path) -> Mapping[str, bytes]:
    """What was sent, each name checked to be that of a rulebook's file. Raises CommandFailed."""
    from broker.core.rulebook.archive import read_files
    from broker.errors import RulebookRefused

    try:
        return read_files(archive)
    except RulebookRefused as refused:
        raise CommandFailed(f"the exchange sent no rulebook: {refused.findings[0]}") from None


def _write(directory: Path, files: Mapping[str, bytes], *, replace: bool) -> None:
    from broker.core.rulebook.load import read_rulebook
    from broker.errors import RulebookRefused

    old: frozenset[str] = frozenset()
    if replace and (directory / "manifest.yaml").is_file():
        try:
            old = frozenset(read_rulebook(directory).files)
        except RulebookRefused as refused:
            raise CommandFailed(f"{directory}: {refused.findings[0]}", ExitCode.USAGE) from None
    try:
        for path in old - files.keys():
            (directory / path).unlink()
        for path, content in files.items():
            place = directory / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
    except OSError as error:
        raise CommandFailed(
            f"{error.filename}: {error.strerror}; correct it, and pull with --replace"
        ) from None
