"""Cases: who receives what, told in the words of the rulebook, and compared with what it decides."""

from broker.core.rulebook.cases.model import Case, Cases, Expectation, RecordSample, Sample
from broker.core.rulebook.cases.read import read_cases

__all__ = ["Case", "Cases", "Expectation", "RecordSample", "Sample", "read_cases"]
