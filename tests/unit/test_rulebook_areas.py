"""What a change touches follows from paths, and what cannot be placed is the exchange's."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from broker.core.rulebook.areas import AREAS_MANY, Area, areas_of
from broker.core.rulebook.load import misplaced, read_rulebook, revision_of
from broker.core.rulebook.registry import parse_registry
from broker.model.rulebook import Revision, revision_id
from tests.policy.engine import RULEBOOK

FILES = {
    **read_rulebook(RULEBOOK).files,
    "keys/ems.jwks.json": b'{"keys": []}',
    "keys/left-over.jwks.json": b'{"keys": []}',
    "cases/ems/receiving.yaml": b"[]\n",
    "cases/ems/principals.yaml": b"{}\n",
    "agencies/ems/deep/more.rego": b"package agencies.ems\n",
    "agencies/ems/deep/guarantees.yaml": b"",
}
PRESENT = Revision(revision_id(FILES), FILES, False)
REGISTRY = parse_registry(read_rulebook(RULEBOOK))

EXCHANGE = Area("exchange")
PLACES = {
    "agencies/ems/module.rego": Area("module", "ems"),
    "agencies/ems/module_test.rego": Area("module", "ems"),
    "agencies/ems/deep/more.rego": Area("module", "ems"),
    "agencies/ems/guarantees.yaml": Area("guarantees", "ems"),
    "agencies/ems/deep/guarantees.yaml": Area("module", "ems"),
    "capabilities.json": EXCHANGE,
    "cases/ems/principals.yaml": Area("cases", "ems"),
    "cases/ems/receiving.yaml": Area("cases", "ems"),
    "cases/principals.yaml": EXCHANGE,
    "cases/records.yaml": EXCHANGE,
    "data/administration/data.yaml": EXCHANGE,
    "data/administrators/ems/data.yaml": Area("agency", "ems"),
    "data/administrators/exchange/data.yaml": Area("agency", "exchange"),
    "data/agencies/ems/data.yaml": Area("agency", "ems"),
    "data/agreements/highway-patrol/data.yaml": Area("agreement", "highway-patrol"),
    "data/record_types/cyber-centre/data.yaml": Area("record_type", "cyber-centre"),
    "data/topics/data.yaml": Area("topic"),
    "data/vocabulary/data.yaml": Area("vocabulary"),
    "entente/admin/admin.rego": EXCHANGE,
    "entente/guarantees.yaml": EXCHANGE,
    "keys/ems.jwks.json": Area("keys", "ems"),
    "keys/left-over.jwks.json": EXCHANGE,
    "manifest.yaml": EXCHANGE,
    "schemas/input.schema.json": EXCHANGE,
}


def changed(**edits: bytes | None) -> tuple[Area, ...]:
    return areas_between(FILES, {**FILES, **edits})


def areas_between(old: Mapping[str, bytes], new: Mapping[str, bytes | None]) -> tuple[Area, ...]:
    files = {path: content for path, content in new.items() if content is not None}
    proposed = Revision(revision_id(files), files, False)
    return areas_of(Revision(revision_id(old), dict(old), False), proposed, REGISTRY)


@pytest.mark.parametrize(("path", "area"), PLACES.items(), ids=str)
def test_each_kind_of_file_has_its_area(path: str, area: Area) -> None:
    comment = FILES[path] + b"\n# a comment is a change too\n"
    assert changed(**{path: comment}) == (area,)
    without = {name: content for name, content in FILES.items() if name != path}
    assert areas_between(without, {**FILES}) == (area,)


def test_every_file_of_the_default_rulebook_is_placed_as_its_kind() -> None:
    """No file that a rulebook may hold falls to nobody, and none of an agency's folders to another."""
    for path, content in FILES.items():
        (area,) = changed(**{path: content + b" "})
        assert area.owner in {"", *REGISTRY.agencies}
        assert (area.owner != "") == (area.kind not in {"exchange", "topic", "vocabulary"})
        if area.owner:
            assert area.owner in path.split("/") or path == f"keys/{area.owner}.jwks.json"


@pytest.mark.parametrize(
    "path",
    [
        "data/data.yaml",
        "data/agreements/data.yaml",
        "data/agreements/ems/more/data.yaml",
        "data/topics/ems/data.yaml",
        "data/index/ems/data.yaml",
        "agencies/module.rego",
        "cases/ems/more/receiving.yaml",
        "keys/highway-patrol.jwks.json.jwks.json",
        "elsewhere/ems/data.yaml",
        "agencies",
        "",
    ],
)
def test_what_cannot_be_placed_is_the_exchange_s(path: str) -> None:
    assert changed(**{path: b"new"}) == (EXCHANGE,)


def test_one_revision_has_no_areas_and_many_changes_each_theirs_once() -> None:
    assert areas_of(PRESENT, PRESENT, REGISTRY) == ()
    edits = {path: content + b" " for path, content in FILES.items() if path in PLACES}
    assert changed(**edits) == tuple(sorted(set(PLACES.values())))


def test_a_module_s_text_cannot_move_it_to_another_owner() -> None:
    """It is refused later; until then its author's side has to be asked, and the other's too if its file is touched."""
    foreign = b"package entente.decision\n"
    assert changed(**{"agencies/ems/other.rego": foreign}) == (Area("module", "ems"),)
    moved = {"agencies/ems/other.rego": FILES["entente/tlp/tlp.rego"], "entente/tlp/tlp.rego": None}
    assert changed(**moved) == (EXCHANGE, Area("module", "ems"))


def test_keys_are_whose_they_are_now_whatever_the_proposal_registers() -> None:
    """Else an agency could take another's key file over in one step."""
    registration = FILES["data/agencies/transport/data.yaml"].replace(b"keys/transport.", b"keys/ems.")
    edits = {"data/agencies/transport/data.yaml": registration, "keys/ems.jwks.json": b'{"keys": [1]}'}
    assert changed(**edits) == (Area("agency", "transport"), Area("keys", "ems"))
    assert changed(**{"keys/new.jwks.json": b"{}"}) == (EXCHANGE,)


def test_a_key_file_of_two_agencies_is_both_s() -> None:
    files = dict(FILES)
    files["data/agencies/transport/data.yaml"] = files["data/agencies/transport/data.yaml"].replace(
        b"keys/transport.", b"keys/ems."
    )
    registry = parse_registry(revision_of({path: files[path] for path in files if misplaced(path) is None}))
    proposed = {**files, "keys/ems.jwks.json": b'{"keys": [1]}'}
    one, other = (Revision(revision_id(each), each, False) for each in (files, proposed))
    assert areas_of(one, other, registry) == (Area("keys", "ems"), Area("keys", "transport"))


def test_who_leaves_cannot_be_asked() -> None:
    """What goes with its registration is part of that; what stays, or is changed, is its own still."""
    owned = {path for path, area in PLACES.items() if area.owner == "ems"}
    assert changed(**dict.fromkeys(owned)) == (Area("agency", "ems"),)
    kept = {**dict.fromkeys(owned), "agencies/ems/module.rego": b"package agencies.ems\n"}
    assert changed(**kept) == (Area("agency", "ems"), Area("module", "ems"))
    assert changed(**{"agencies/ems/module.rego": None}) == (Area("module", "ems"),)


def test_many_registrations_are_told_as_one_and_owners_are_asked_all_the_same() -> None:
    """A rulebook of thousands of new agencies can be proposed at once."""
    new = {
        f"data/{kind}/new-{number}/data.yaml": b"{}"
        for number in range(AREAS_MANY)
        for kind in ("agencies", "agreements")
    }
    edits = {"agencies/ems/module.rego": b"package agencies.ems\n", "data/topics/data.yaml": b"{}"}
    assert len(changed(**dict(list(new.items())[:AREAS_MANY]))) == AREAS_MANY
    assert changed(**new) == (EXCHANGE,)
    assert changed(**new, **edits) == (EXCHANGE, Area("module", "ems"))
