"""What a verification keeps of what it finds."""

from __future__ import annotations

from broker.core.audit.findings import MAX_FINDINGS, Findings
from broker.model.audit import Severity


def test_remarks_do_not_crowd_the_first_fault_out() -> None:
    findings = Findings()
    for index in range(MAX_FINDINGS + 5):
        findings.remark("broker", index, "odd")
    findings.fault("broker", 7, "changed")
    assert [(f.index, f.what) for f in findings.kept if f.severity is Severity.FAULT] == [(7, "changed")]
    assert (len(findings.kept), findings.omitted) == (MAX_FINDINGS + 1, 5)
    assert findings.faulty == {"broker"}


def test_faults_are_bounded_too() -> None:
    findings = Findings()
    for index in range(MAX_FINDINGS + 5):
        findings.fault("broker", index, "changed")
    assert (findings.kept[0].index, len(findings.kept), findings.omitted) == (0, MAX_FINDINGS, 5)
