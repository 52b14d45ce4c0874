"""The rulebook compiler: what the policy engine itself says about a revision before it may be used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from broker.model.rulebook import Revision


class TooComplex(ValueError):
    """A module that takes longer to parse, or is deeper, than any that people write."""


class RulebookCompiler(Protocol):
    """Blocking; call it in a thread."""

    def compile(self, revision: Revision) -> Sequence[str]:
        """One line for each reason why the engine cannot run the revision, or must not; none is good."""

    def compile_tests(self, revision: Revision) -> Sequence[str]:
        """As `compile`, for a revision without such reasons, with its tests, which nothing loads to decide."""

    def parse(self, path: str, source: bytes) -> Mapping[str, object]:
        """The syntax tree of one module, with locations, as `opa parse` gives it.

        Raises ValueError if it is not Rego, TooComplex if that cannot be told.
        """
