"""Which entries a list shows: by kind, time, instance, the agencies that they name, and reference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest

from broker.cli.audit.entries import Wanted, _line, _shown
from connectors.cli.failures import CommandFailed, ExitCode
from tests.fakes.ledgers import FakeLedgers, make_ledgers

ALL = Wanted((), None, None, None, None, None)


@pytest.fixture(scope="module")
def ledgers() -> FakeLedgers:
    return make_ledgers(seed=17, rounds=120, instances=("broker",))


def listed(ledgers: FakeLedgers, wanted: Wanted) -> list[int]:
    shown = _shown("broker", ledgers.instances["broker"].entries, wanted)
    return [int(each["entry"].removeprefix("broker/")) for each in shown]


def expected(ledgers: FakeLedgers, fits: Callable[[str, int, dict[str, Any]], bool]) -> list[int]:
    plain = ledgers.instances["broker"].plain
    return [n for n, e in enumerate(plain) if fits(e.kind, e.time_ms, cast(dict[str, Any], e.body))]


def test_all_are_listed_whole_and_in_order(ledgers: FakeLedgers) -> None:
    instance = ledgers.instances["broker"]
    shown = _shown("broker", instance.entries, ALL)
    assert [each["entry"] for each in shown] == [f"broker/{n}" for n in range(len(instance.plain))]
    for each, entry in zip(shown, instance.plain, strict=True):
        assert (each["kind"], each["erased"], each["reduced"]) == (entry.kind, False, [])
        assert each["parts"] == {**entry.body, **{name: root.hex() for name, root in entry.roots.items()}}


def test_by_kind_and_time(ledgers: FakeLedgers) -> None:
    times = [entry.time_ms for entry in ledgers.instances["broker"].plain]
    low, high = times[20], times[60]
    wanted = replace(ALL, kinds=("publish", "delivery"), since_ms=low, until_ms=high)
    found = listed(ledgers, wanted)
    assert found == expected(ledgers, lambda k, t, _: k in wanted.kinds and low <= t <= high)
    assert 0 < len(found) < 41
    assert listed(ledgers, replace(ALL, since_ms=max(times) + 1)) == []


def test_by_reference(ledgers: FakeLedgers) -> None:
    number = expected(ledgers, lambda kind, *_: kind == "publish")[3]
    body = cast(dict[str, Any], ledgers.instances["broker"].plain[number].body)
    reference = body["call"]["reference"]
    found = listed(ledgers, replace(ALL, reference=reference))
    assert number in found
    assert found == expected(ledgers, lambda _, __, b: b.get("call", {}).get("reference") == reference)
    assert listed(ledgers, replace(ALL, reference="r-none")) == []


def test_by_agency_as_caller_receiver_or_owner(ledgers: FakeLedgers) -> None:
    def names(agency: str, body: dict[str, Any]) -> bool:
        direct = [body.get(part, {}).get("agency") for part in ("who", "class", "refused")]
        rows = [row["agency"] for row in body.get("acknowledged", [])]
        owners = [each["input"].get("record", {}).get("agency") for each in body.get("decisions", [])]
        return agency in (*direct, *rows, *owners)

    for agency in ("ems", "cyber-centre"):
        found = listed(ledgers, replace(ALL, agency=agency))
        assert found == expected(ledgers, lambda _, __, body, agency=agency: names(agency, body))  # type: ignore[misc]
        assert found
    assert listed(ledgers, replace(ALL, agency="nobody")) == []


def test_an_erased_entry_is_listed_with_its_commitments(ledgers: FakeLedgers) -> None:
    encoded = replace(ledgers.instances["broker"].entries[3], openings=b"")
    (shown,) = _shown("broker", [encoded], ALL)
    assert shown["erased"] is True
    assert set(shown["parts"]) <= {"sealed", "shown", "records", "receivers", "acknowledged", "handed_out"}
    assert all(len(bytes.fromhex(root)) == 32 for root in shown["parts"].values())


def test_what_was_changed_is_not_listed(ledgers: FakeLedgers) -> None:
    one, other = ledgers.instances["broker"].entries[3:5]
    with pytest.raises(CommandFailed, match="entente audit verify") as failed:
        _shown("broker", [replace(one, openings=other.openings)], ALL)
    assert failed.value.code is ExitCode.FAULTS_FOUND


def test_a_line_says_who_and_about_what(ledgers: FakeLedgers) -> None:
    (number, *_) = expected(ledgers, lambda kind, *_: kind == "publish")
    (shown,) = _shown("broker", [ledgers.instances["broker"].entries[number]], ALL)
    line = _line(shown)
    body = cast(dict[str, Any], ledgers.instances["broker"].plain[number].body)
    assert (line["entry"], line["kind"]) == (f"broker/{number}", "publish")
    assert (line["agency"], line["subject"]) == (body["who"]["agency"], body["who"]["subject"])
    assert (line["topic"], line["reference"]) == (body["call"]["topic"], body["call"]["reference"])
