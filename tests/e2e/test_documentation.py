"""The pages are right: their commands print what they show, their links lead somewhere, nothing is left out of them."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from broker.app.config import Config
from broker.core.audit.kinds import KINDS
from broker.errors import Reason
from broker.rpc.services import PACKAGE
from protos.entente.v1 import (
    catalog_pb2,
    exchange_pb2,
    ledger_pb2,
    overlays_pb2,
    rulebook_pb2,
    subscriptions_pb2,
)
from tests.e2e.pages import PAGES, ROOT, files, matches, moved, shell, steps
from tests.services.ports import free_port

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_TEST = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def _name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def _anchors(page: Path) -> set[str]:
    """The ids of a page's headings, as GitHub makes them."""
    titles = _HEADING.findall(_FENCED.sub("", page.read_text()))
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.fixture
def short_path() -> Iterator[Path]:
    """An empty directory whose name is short: a table folds a long one, which no page shows."""
    with tempfile.TemporaryDirectory(prefix="page-") as directory:
        yield Path(directory)


@pytest.mark.opa
@pytest.mark.slow
@pytest.mark.timeout(300)  # the README holds the whole demo, and machines may be busy
@pytest.mark.parametrize("page", [page for page in PAGES if steps(page.read_text())], ids=_name)
def test_commands_print_what_is_shown(page: Path, short_path: Path, opa_binary: Path) -> None:
    text = moved(page.read_text(), free_port(3))
    for name, content in files(text).items():
        (short_path / name).write_text(content)
    run = steps(text)
    with shell(short_path) as session:
        for number, step in enumerate(run):
            output = session.run(step)

            assert matches(step.output, output), f"$ {step.command}\n{output}"
            asked = run[number + 1 : number + 2]
            if not step.in_background and not (asked and asked[0].command == "echo $?"):
                assert session.status == 0, f"$ {step.command}\n{output}"


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in _LINK.findall(_FENCED.sub("", page.read_text())):
        if target.startswith(("https://", "http://")):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        assert not anchor or anchor in _anchors(linked), target


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_tests_that_are_named_exist(page: Path) -> None:
    for path, test in _TEST.findall(page.read_text()):
        source = ROOT / path
        assert source.exists(), path
        assert not test or re.search(rf"^ *(async )?def {test}\(", source.read_text(), re.MULTILINE), test


def test_every_page_can_be_reached() -> None:
    reached = {ROOT / "README.md"}
    waiting = list(reached)
    while waiting:
        page = waiting.pop()
        targets = (link.partition("#")[0] for link in _LINK.findall(page.read_text()))
        own = (target for target in targets if target.endswith(".md") and ":" not in target)
        found = {(page.parent / target).resolve() for target in own}
        waiting += found - reached
        reached |= found
    assert set(PAGES) - reached == set()


def test_generated_parts_are_those_of_the_sources() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "docs/generate.py", "--check"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_every_reason_is_explained() -> None:
    explained = re.findall(r"^\| `([A-Z_]+)` \|", (ROOT / "docs/errors.md").read_text(), re.MULTILINE)
    assert explained == [reason.name for reason in Reason]


def test_every_method_is_documented() -> None:
    documented = re.findall(r"^#### (\w+\.\w+)$", (ROOT / "docs/api.md").read_text(), re.MULTILINE)
    declared = [
        f"{service.name}.{method.name}"
        for file in (catalog_pb2, exchange_pb2, ledger_pb2, overlays_pb2, rulebook_pb2, subscriptions_pb2)
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    ]
    assert exchange_pb2.DESCRIPTOR.package == PACKAGE
    assert sorted(documented) == sorted(declared)


def test_every_kind_of_ledger_entry_is_documented_with_its_parts() -> None:
    page = (ROOT / "docs/ledger.md").read_text()
    rows = re.findall(r"^\| `([a-z_]+)` \| [^|]* \| (.*) \|$", page.partition("`who` holds")[0], re.MULTILINE)
    documented = {kind: set(re.findall(r"`([a-z_]+)`", parts)) for kind, parts in rows}
    deliveries = page.partition("## Deliveries")[2].partition("## Receipts")[0]
    documented["delivery"] = set(re.findall(r"^\| `([a-z_]+)` \|", deliveries, re.MULTILINE))
    assert sorted(documented) == sorted(KINDS)
    for kind, parts in KINDS.items():
        assert documented[kind] >= parts - {"rules"}, kind


def test_every_kind_that_is_written_is_a_known_one() -> None:
    written = {
        kind
        for source in (ROOT / "broker").rglob("*.py")
        for kind in re.findall(
            r"(?:evidence\.(?:write|entry)|(?<!\.)\brecord)\(\s*\"([a-z_]+)\"", source.read_text()
        )
    }
    assert written == set(KINDS)


def test_every_configuration_key_is_documented_with_its_default() -> None:
    page = (ROOT / "docs/configuration.md").read_text()
    documented = dict(re.findall(r"^\| `([a-z_.<>]+)` \| ([^|]*?) \|", page, re.MULTILINE))
    assert documented == dict(_keys(Config, ""))


def _keys(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, str]]:
    """Each key that holds a value, with its default as the page writes it."""
    for name, field in model.model_fields.items():
        key = f"{prefix}{name}"
        section = _section(field.annotation)
        if section is not None:
            part = f"{key}.<name>." if name == "contexts" else f"{key}."
            yield from _keys(section, part)
        else:
            yield key, _default(field.get_default(call_default_factory=True))


def _section(annotation: Any) -> type[BaseModel] | None:
    """The section that a key holds: directly, if it may be absent, or by name."""
    candidates = (annotation, *get_args(annotation))
    return next((each for each in candidates if isinstance(each, type) and issubclass(each, BaseModel)), None)


def _default(value: object) -> str:
    if value is PydanticUndefined:
        return "required"
    if value is None:
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f'`"{value}"`' if isinstance(value, str) else f"`{value}`"
