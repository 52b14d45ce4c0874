"""What on_error says becomes of refused records, and nothing of them is told but where they stand and why."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from connectors.runtime.model import ConnectorFailed
from connectors.runtime.progress import Progress
from connectors.runtime.refusals import Letter, Refusals
from connectors.runtime.settings import OnError

CANARY = "canary-3fe8"


class Kept:
    """Dead letters in memory, or nowhere."""

    def __init__(self, error: Exception | None = None) -> None:
        self.letters: list[Letter[str]] = []
        self._error = error

    async def put(self, letters: Sequence[Letter[str]]) -> None:
        if self._error is not None:
            raise self._error
        self.letters += letters


def letters(count: int) -> list[Letter[str]]:
    return [
        Letter(CANARY, "LABELS_INVALID: no classification", 1, {"topic": "crashes", "offset": str(number)})
        for number in range(count)
    ]


@pytest.mark.parametrize(
    ("on_error", "kept", "skipped"), [("dead-letter", 2, 0), ("skip", 0, 2)], ids=["dead-letter", "skip"]
)
async def test_records_are_left_out_and_each_is_told(
    on_error: OnError, kept: int, skipped: int, caplog: pytest.LogCaptureFixture
) -> None:
    progress, dead_letters = Progress(), Kept()
    await Refusals("intake", on_error, dead_letters, progress).treat(letters(2))
    assert len(dead_letters.letters) == progress.dead_lettered == kept
    assert (progress.skipped, progress.failed) == (skipped, 0)
    assert (
        f"connector intake: {on_error} at topic crashes, offset 1: LABELS_INVALID: no classification"
        in caplog.text
    )
    assert CANARY not in caplog.text


@pytest.mark.parametrize(("on_error", "dead_letters"), [("fail", Kept()), ("dead-letter", None)])
async def test_a_task_stops_before_the_first(on_error: OnError, dead_letters: Kept | None) -> None:
    progress = Progress()
    with pytest.raises(ConnectorFailed) as failed:
        await Refusals("intake", on_error, dead_letters, progress).treat(letters(2))
    assert failed.value.cause == (
        "topic crashes, offset 0: LABELS_INVALID: no classification; "
        "mend it or its mapping, or choose on_error skip or dead-letter"
    )
    assert (progress.failed, progress.dead_lettered, progress.skipped) == (1, 0, 0)


async def test_what_could_not_be_kept_is_not_counted_as_kept() -> None:
    progress = Progress()
    with pytest.raises(ConnectorFailed, match="full"):
        await Refusals("intake", "dead-letter", Kept(ConnectorFailed("full")), progress).treat(letters(1))
    assert progress.dead_lettered == 0


async def test_nothing_refused_is_nothing() -> None:
    await Refusals[str]("intake", "fail", None, Progress()).treat([])
