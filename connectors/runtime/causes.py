"""Why something failed, in one line that may be shown to everybody: no record, token or secret is ever in it."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from connectors.errors import EntenteClientError
from connectors.runtime.model import ConnectorFailed
from connectors.runtime.settings import ConfigurationRefused

LONGEST_CAUSE = 600
_TRAIL = 6


@dataclass(frozen=True, slots=True)
class Failure:
    """One line, and whether starting again is of no use before somebody does something."""

    cause: str
    lasting: bool = False


def failure_of(error: BaseException) -> Failure:
    """What to show of an exception; of a group, the first that tells its cause."""
    found = list(_leaves(error))
    told = [each for each in map(_told, found) if each is not None]
    return told[0] if told else Failure(unexpected(found[0]))


def unexpected(error: BaseException) -> str:
    """The kind and place of an exception that nobody foresaw; its message may quote what it was about."""
    return f"unexpected {type(error).__name__} at {_places(error)[-1]}; report it with the process's log"


def trail(error: BaseException) -> str:
    """Where such an exception came through, the innermost last."""
    return " > ".join(place for each in _leaves(error) for place in _places(each)[-_TRAIL:])


def out_of_memory(error: BaseException) -> bool:
    """Whether the process cannot be relied on any more."""
    return any(isinstance(each, MemoryError) for each in _leaves(error))


def one_line(text: str) -> str:
    """A bounded line without control characters: causes are shown on terminals, and may name what others named."""
    line = " ".join(text.split())
    safe = "".join(each if each.isprintable() else "?" for each in line)
    return safe if len(safe) <= LONGEST_CAUSE else safe[: LONGEST_CAUSE - 1] + "…"


def _told(error: BaseException) -> Failure | None:
    match error:
        case ConnectorFailed():
            return Failure(one_line(error.cause), error.lasting)
        case ConfigurationRefused():
            # Not lasting: a secret's file that something rewrites may be away for a moment.
            return Failure(one_line("; ".join(error.findings)))
        case EntenteClientError():
            return Failure(one_line(str(error)))
        case OSError():
            where = f"{error.filename}: " if isinstance(error.filename, str) else ""
            return Failure(one_line(f"{where}{error.strerror or type(error).__name__}"))
        case _:
            return None


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _leaves(each)
    else:
        yield error


def _places(error: BaseException) -> list[str]:
    frames = traceback.extract_tb(error.__traceback__)
    return [f"{'/'.join(Path(each.filename).parts[-2:])}:{each.lineno}" for each in frames] or ["no place"]
