"""The index of a bundle's data: what it holds, and that decisions are the same with it and without."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import orjson
import pytest

from benchmarks.made_rulebook import Size, make_rulebook
from broker.adapters.opa.bundle import rulebook_bundle
from broker.adapters.opa.index import DataIndex
from broker.core.rulebook.cases import read_cases
from broker.core.rulebook.load import read_rulebook, revision_of
from broker.core.rulebook.registry import parse_registry
from broker.core.rulebook.samples import questions_of_agreements
from broker.model.registry import Registry
from broker.model.rulebook import Revision
from tests.policy.engine import RULEBOOK, Item, Output, decide

DEFAULT = read_rulebook(RULEBOOK)


def contents(bundle: bytes) -> dict[str, bytes]:
    """What OPA reads, by path."""
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(bundle)), mode="r:") as archive:
        files = ((entry.name, archive.extractfile(entry)) for entry in archive)
        return {name: file.read() for name, file in files if file is not None}


def test_what_the_index_says() -> None:
    index = DataIndex()
    index.add(
        "data/agreements/a/data.yaml",
        {
            "x": {"consumer": "c", "topics": ["m"]},
            "y": {"consumer": "d", "topics": "m"},
            "z": {"consumer": "c", "topics": ["m", 1]},
        },
    )
    index.add(
        "data/agreements/b/data.yaml",
        {"x": {"consumer": "c", "topics": ["m", "n"]}, "odd": 1, "none": {}, "list": {"consumer": ["d"]}},
    )
    index.add("data/record_types/a/data.yaml", {"t": {"publishers": ["a", "b", 1]}, "u": {}, "odd": []})
    index.add("data/record_types/b/data.yaml", {"t": {"publishers": "a"}})
    index.add("data/agencies/a/data.yaml", {"name": "A"})
    index.add("data/topics/data.yaml", {"t": {}})
    index.add("data/agreements/c/data.yaml", [])

    assert orjson.loads(index.document()) == {
        "form": 1,
        "agreements": {"a": {"c": ["x", "z"], "d": ["y"]}, "b": {"c": ["x"]}},
        "granting": {"c": {"m": ["a", "b"], "n": ["b"]}},
        "record_types": {"t": ["a", "b"], "u": ["a"]},
        "publishers": {"a": {"t": {"a": True, "b": True}, "u": {}}, "b": {"t": {}}},
    }


def test_a_bundle_holds_the_data_as_it_is_and_the_index_beside_it() -> None:
    held = contents(rulebook_bundle(DEFAULT))

    assert orjson.loads(held["/.manifest"])["roots"] == ["agencies", "data", "entente", "index"]
    index = orjson.loads(held["/index/data.json"])
    assert index["agreements"]["highway-patrol"]["transport"] == ["transport-crash-statistics"]
    agreements = orjson.loads(held["/data/agreements/highway-patrol/data.json"])
    assert agreements["transport-crash-statistics"]["consumer"] == "transport"


def test_a_bundle_of_tests_holds_no_index() -> None:
    """Tests replace data, and an index of what they replaced would be wrong."""
    held = contents(rulebook_bundle(DEFAULT, with_tests=True))

    assert "/entente/index/index_test.rego" in held
    assert not [path for path in held if path.startswith("/index/")]


def doubled() -> Revision:
    """The default rulebook with a type that two register, two agreements of one pair, and one that is not in order."""
    types = DEFAULT.files["data/record_types/cyber-centre/data.yaml"]
    agreements = DEFAULT.files["data/agreements/highway-patrol/data.yaml"]
    more = agreements.replace(b"ems-crash-reports", b"ems-more").replace(b"{kind: keep}", b"{kind: mask}")
    odd = more.replace(b"ems-more", b"ems-odd").replace(b"highest: red", b"highest: unknown")
    return revision_of(
        {
            **DEFAULT.files,
            "data/record_types/highway-patrol/data.yaml": DEFAULT.files[
                "data/record_types/highway-patrol/data.yaml"
            ]
            + types.partition(b"org.oasis")[0],
            "data/agreements/highway-patrol/data.yaml": b"\n".join(
                [agreements, more.partition(b"transport-crash")[0], odd.partition(b"transport-crash")[0]]
            ),
        }
    )


def _subscriptions(registry: Registry) -> Iterator[Item]:
    for agency, topic in product(registry.agencies.values(), registry.topics):
        for purpose in sorted(agency.purposes):
            subject = {"id": "x", "agency": agency.name, "roles": [], "attributes": {}, "purpose": purpose}
            action = {"action": "subscribe", "subject": subject, "topic": topic}
            yield {**action, "id": f"{agency.name} {topic} {purpose}"}


def _asked(registered: Revision) -> list[Any]:
    registry = parse_registry(registered)
    cases = read_cases(registered, registry)
    items = [case.item for case in cases.cases]
    items += [question.item for question in questions_of_agreements(registry, cases)]
    return [*items, *_subscriptions(registry)]


MADE = revision_of(make_rulebook(Size(agencies=6, agreements=60, with_types=2, with_modules=2)))


@pytest.mark.opa
@pytest.mark.parametrize(
    ("revision", "registered"),
    [(DEFAULT, DEFAULT), (doubled(), DEFAULT), (MADE, MADE)],
    ids=["default", "doubled", "made"],
)
def test_decisions_are_the_same_with_the_index_and_without(
    opa_binary: Path, tmp_path: Path, revision: Revision, registered: Revision
) -> None:
    asked = _asked(registered)
    answers: list[list[Output]] = []
    for with_tests in (True, False):
        bundle = tmp_path / f"{with_tests}.tar.gz"
        bundle.write_bytes(rulebook_bundle(revision, with_tests=with_tests))
        answers.append(decide(opa_binary, asked, rulebook=bundle))

    assert len(answers[0]) == len(asked) > 100
    assert answers[0] == answers[1]
    assert {output["effect"] for output in answers[0]} == {"release", "notice", "withhold"}


def test_a_made_rulebook_is_the_same_each_time() -> None:
    again = make_rulebook(Size(agencies=6, agreements=60, with_types=2, with_modules=2))
    assert revision_of(again).id == MADE.id
    assert len(parse_registry(MADE).agreements) > 60
