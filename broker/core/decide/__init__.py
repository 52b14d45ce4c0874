"""Decisions: asked of the policy engine in batches, one owner's apart from another's, and remembered."""

from broker.core.decide.decider import Decider
from broker.core.decide.faults import ENGINE_FAULT
from broker.core.decide.limits import DeciderLimits
from broker.core.decide.question import Question, make_question
from broker.core.decide.ruling import Ruling

__all__ = ["ENGINE_FAULT", "Decider", "DeciderLimits", "Question", "Ruling", "make_question"]
