"""Guarantees: what no change of the rulebook may ever make somebody receive, held against every combination in reach."""

from broker.core.rulebook.guarantees.model import Guarantee, RecordPattern, SubjectPattern
from broker.core.rulebook.guarantees.read import read_guarantees

__all__ = ["Guarantee", "RecordPattern", "SubjectPattern", "read_guarantees"]
