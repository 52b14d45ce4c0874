"""What a verification has found so far: a bounded list, and how much more there was."""

from __future__ import annotations

from collections import Counter

from broker.core.audit.chunk import ASK
from broker.model.audit import Finding, Severity

MAX_FINDINGS = 1_000
"""Of each severity: however much there is to remark, the first fault is told."""


class Findings:
    """Collects findings in the order of discovery."""

    def __init__(self) -> None:
        self.kept: list[Finding] = []
        self.omitted = 0
        self.faulty: set[str] = set()
        self._counts = Counter[Severity]()

    def add(self, finding: Finding) -> None:
        """One finding."""
        if finding.severity is Severity.FAULT:
            self.faulty.add(finding.instance)
        if self._counts[finding.severity] < MAX_FINDINGS:
            self._counts[finding.severity] += 1
            self.kept.append(finding)
        else:
            self.omitted += 1

    def fault(self, instance: str, index: int | None, what: str, remedy: str = ASK) -> None:
        """Something is not as it should be."""
        self.add(Finding(Severity.FAULT, instance, index, what, remedy))

    def remark(self, instance: str, index: int | None, what: str, remedy: str = ASK) -> None:
        """Something that the reader should know."""
        self.add(Finding(Severity.REMARK, instance, index, what, remedy))
