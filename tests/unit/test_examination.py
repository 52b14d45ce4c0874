"""Examining records: what it costs is paid by who sent them, and only by those who may publish (design rule 8)."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from broker.core.record.admission import Candidate, RecordLimits
from broker.core.record.examination import LARGE_BYTES, Examiner
from broker.errors import EntenteError, Reason
from broker.model.principal import Principal
from protos.io.cloudevents.v1.cloudevents_pb2 import CloudEvent
from tests.fakes.delivery import TOPIC, TYPE, registry
from tests.fakes.turns import turns_of_others

_EXPENSIVE = "[" + ",".join(["[" * 62 + "]" * 62] * 4_000) + "]"
"""Half a megabyte that takes most of a second to look through."""


def principal(agency: str) -> Principal:
    return Principal(agency, "p-1", (), (), {}, "token-1", datetime(2030, 1, 1, tzinfo=UTC))


def event(data: str, agency: str = "alpha") -> CloudEvent:
    made = CloudEvent(id="1", source=f"//{agency}/x", spec_version="1.0", type=TYPE, text_data=data)
    made.attributes["dataclassification"].ce_string = "green"
    return made


async def examined(agency: str, *events: CloudEvent) -> list[Candidate | EntenteError]:
    known = registry()
    examiner = Examiner(known, RecordLimits())
    return await examiner.examine(events, principal(agency), known.topics[TOPIC], keep_documents=True)


async def test_outcomes_are_in_the_order_of_the_records() -> None:
    large = '"' + "x" * LARGE_BYTES + '"'
    found = await examined("alpha", event("1"), event("{"), event(large), event("2"))
    assert [o.reason if isinstance(o, EntenteError) else o.document for o in found] == [
        1,
        Reason.CONTENT_INVALID,
        "x" * LARGE_BYTES,
        2,
    ]


async def test_the_event_loop_turns_while_an_expensive_record_is_examined() -> None:
    """On the loop itself one publisher's documents would hold up every stream of everybody."""
    async with turns_of_others() as turns:
        (outcome,) = await examined("alpha", event(_EXPENSIVE))
    assert isinstance(outcome, Candidate)
    assert turns.count > 10


@pytest.mark.parametrize("data", ["{", _EXPENSIVE])
async def test_who_may_not_publish_a_type_has_no_content_examined(data: str) -> None:
    """Authorise before validating: else whoever may read a topic could have documents checked at the others' cost."""
    (outcome,) = await examined("reader", event(data, "reader"))
    assert isinstance(outcome, EntenteError)
    assert outcome.reason is Reason.RECORD_TYPE_NOT_FOUND
