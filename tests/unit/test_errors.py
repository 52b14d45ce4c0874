"""The catalogue of errors: complete, one line each, and a status with exactly one ErrorInfo."""

from __future__ import annotations

import re
from pathlib import Path

import grpc
import pytest
from google.rpc import code_pb2, error_details_pb2

from broker.errors import EntenteError, Reason
from broker.rpc.status import rich_status

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("reason", Reason)
def test_each_reason_has_a_code_and_one_line(reason: Reason) -> None:
    assert grpc.StatusCode[reason.code].value[0] == code_pb2.Code.Value(reason.code)
    assert reason.code not in ("OK", "UNKNOWN", "CANCELLED")
    text = reason.text("DETAIL")
    assert text.isprintable()
    assert text[0].isupper() or text.startswith("'")
    assert text.endswith(".")
    assert "{" not in text
    assert re.fullmatch(r"[A-Z][A-Z_]{0,62}", reason.name), "not as AIP-193 wants a reason"


@pytest.mark.parametrize("reason", Reason)
def test_each_reason_becomes_a_status_with_one_error_info(reason: Reason) -> None:
    status = rich_status(EntenteError(reason, "DETAIL", {"vocabulary": "a,b"}), "ref-1")
    assert status.code == code_pb2.Code.Value(reason.code)
    assert status.message == reason.text("DETAIL")
    (detail,) = status.details
    info = error_details_pb2.ErrorInfo()
    assert detail.Unpack(info)
    assert (info.reason, info.domain) == (reason.name, "entente")
    assert dict(info.metadata) == {"reference": "ref-1", "vocabulary": "a,b"}


def test_no_two_reasons_are_one() -> None:
    """Entries of an enumeration with equal values would be aliases of each other."""
    assert len(Reason.__members__) == len(list(Reason))


@pytest.mark.parametrize("detail", ["two\nlines", "a\x00b", "x" * 100_000, "{0}{detail}", "\u202e"])
def test_a_detail_stays_one_bounded_line(detail: str) -> None:
    text = str(EntenteError(Reason.TOPIC_NOT_FOUND, detail))
    assert text.isprintable()
    assert len(text) < 500


def test_every_reason_is_used() -> None:
    """A reason that nothing raises would be a promise in the API's documentation that is not kept."""
    sources = "".join(
        path.read_text()
        for path in sorted((ROOT / "broker").rglob("*.py"))
        if path != ROOT / "broker" / "errors.py"
    )
    unused = [reason.name for reason in Reason if not re.search(rf"Reason\.{reason.name}\b", sources)]
    assert unused == []


def test_every_reason_that_the_protos_promise_exists() -> None:
    protos = "".join(path.read_text() for path in (ROOT / "protos" / "entente").rglob("*.proto"))
    promised: set[str] = set()
    for block in re.findall(r"Errors?:((?:[^\n]*\n\s*//)*[^\n]*)", protos):
        promised |= set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", block))
    assert promised
    assert promised <= set(Reason.__members__)
