"""The form of add-checkpoint requests: what C2SP tlog-witness shows is read, and nothing else is."""

from __future__ import annotations

import base64

import pytest

from broker.core.checkpoint.checkpoint import Checkpoint
from broker.core.checkpoint.note import SignedNote
from broker.core.witness.request import MAX_PROOF_LINES, MAX_REQUEST_BYTES, AddCheckpoint, RequestInvalid
from tests.fakes.witnessed_log import WitnessedLog

# The example of the text, C2SP tlog-witness, add-checkpoint.
EXAMPLE = """old 20852014
PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=
jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=
5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=
/6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=

example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
— example.com/behind-the-sofa opLqBQsREYCgu6xQkYQwJr9fo45a62DN9EdmHXnZdXNqlcVGlCum2Wks+49/V6267UEjw6QUXTS5Rovnzv++qbSzm9Q=
""".encode()


def test_the_example_of_the_text_is_read() -> None:
    request = AddCheckpoint.parse(EXAMPLE)
    assert request.old_size == 20852014
    assert [base64.b64encode(node)[:5] for node in request.proof] == [b"PlRNC", b"jrJZD", b"5+pKl", b"/6WVh"]
    assert (request.checkpoint.origin, request.checkpoint.size) == ("example.com/behind-the-sofa", 20852163)
    assert len(SignedNote.parse(request.note).signatures) == 2


@pytest.mark.parametrize(("old", "new"), [(0, 0), (0, 1), (1, 1), (1, 7), (4, 7), (7, 7)])
def test_what_is_written_is_read_again(old: int, new: int) -> None:
    log = WitnessedLog().grow(7)
    request = AddCheckpoint.parse(log.request(old, new))
    update = log.update(old, new)
    assert (request.old_size, request.proof, request.note) == (update.old_size, update.proof, update.note)
    assert request.checkpoint == Checkpoint.parse(SignedNote.parse(update.note).text)


LOG = WitnessedLog().grow(9)
GOOD = LOG.request(5)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "an empty line"),
        (b"\n\n", "a blank line, and signature lines"),
        (GOOD.replace(b"old 5", b"old 05"), "without leading zeros"),
        (GOOD.replace(b"old 5", b"old -5"), "begins with 'old'"),
        (GOOD.replace(b"old 5", b"old 5 "), "begins with 'old'"),
        (GOOD.replace(b"old 5", b"old  5"), "begins with 'old'"),
        (GOOD.replace(b"old 5", b"OLD 5"), "begins with 'old'"),
        (GOOD.replace(b"old 5", b"size 5"), "begins with 'old'"),
        (GOOD.replace(b"old 5", b"old 10"), "the old size is above"),
        (GOOD.replace(b"old 5", b"old 9223372036854775808"), "begins with 'old'"),
        (GOOD.replace(b"old 5", b"old 99999999999999999999"), "begins with 'old'"),
        (GOOD.replace(b"old 5", "old \u0665".encode()), "are ASCII"),
        (b"old 5\n!!!!\n\n" + LOG.checkpoint(), "not base64"),
        (b"old 5\n" + base64.b64encode(bytes(31)) + b"\n\n" + LOG.checkpoint(), "a hash of 32 bytes"),
        (b"old 5\n" + base64.b64encode(bytes(32))[:-1] + b"\n\n" + LOG.checkpoint(), "not base64"),
        (
            b"old 5\n"
            + (base64.b64encode(bytes(32)) + b"\n") * (MAX_PROOF_LINES + 1)
            + b"\n"
            + LOG.checkpoint(),
            "at most 63 lines",
        ),
        (GOOD.replace(b"\n", b"\r\n"), "an empty line"),
        (GOOD[:-1], "end with a newline"),
        (GOOD[:60], "an empty line"),
        (GOOD.replace(b"\n9\n", b"\n09\n"), "without leading zeros"),
        (GOOD.replace(b"exchange-1", b"exchange\xff"), "UTF-8"),
        (b"old 0\n\n" + b"x" * MAX_REQUEST_BYTES, "an empty line and a checkpoint"),
    ],
)
def test_any_other_form_is_refused_in_one_line(body: bytes, says: str) -> None:
    with pytest.raises(RequestInvalid, match=says) as refused:
        AddCheckpoint.parse(body)
    assert "\n" not in str(refused.value)
    assert "exchange-1" not in str(refused.value)


def test_the_longest_request_that_may_be_is_read() -> None:
    lines = b"old 9\n" + (base64.b64encode(bytes(32)) + b"\n") * MAX_PROOF_LINES
    assert len(AddCheckpoint.parse(lines + b"\n" + LOG.checkpoint()).proof) == MAX_PROOF_LINES
