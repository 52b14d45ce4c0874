"""The time that one decision may take, and where one that takes longer spends it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from broker.core.rulebook.cases.run import evaluate
from broker.core.rulebook.findings import Finding
from broker.core.rulebook.samples import Question
from broker.core.rulebook.syntax import Node, dotted, line_in, node, nodes, package_path
from broker.ports.rulebook_trial import Cost, RulebookTrial

BUDGET_NS = 5_000_000
"""About ten times what a decision of the default rulebook takes, and what one slow module may cost everybody else."""

_REPEATS = 20
"""A decision is as fast as its fastest run: a busy machine slows some, and not so many in a row."""
_FEW_REPEATS = 5
_FAR_NS = 4 * BUDGET_NS
"""What is so slow is asked a few times only: no other process makes a decision four times as slow as often as that."""
_NAMED = 3
"""So many slow decisions are looked into: more are slow for the same reasons, and each takes its time."""


@dataclass(frozen=True, slots=True)
class Timed:
    """A question and the time of its decision, in nanoseconds; None: there was none in time."""

    question: Question
    duration_ns: int | None

    @property
    def too_long(self) -> bool:
        """Whether one run was beyond the budget; another may not be."""
        return self.duration_ns is None or self.duration_ns > BUDGET_NS


async def measure(trial: RulebookTrial, questions: Iterable[Question]) -> list[Timed]:
    """Each question asked, up to one without an answer in time."""
    timed: list[Timed] = []
    for question in questions:
        evaluation = await evaluate(trial, question.item)
        timed.append(Timed(question, None if evaluation is None else evaluation.duration_ns))
        if evaluation is None:
            break
    return timed


async def slowest(trial: RulebookTrial, timed: Sequence[Timed]) -> Timed | None:
    """The question whose decision takes longest, with the time of its fastest run; None if there is none."""
    answered = sorted((each for each in timed if each.duration_ns is not None), key=_duration, reverse=True)
    settled = [await _fastest(trial, each, repeats=_NAMED) for each in answered[:_NAMED]]
    return max(settled, key=_duration, default=None)


async def over_budget(
    trial: RulebookTrial, timed: Sequence[Timed], modules: Mapping[str, Node]
) -> list[Finding]:
    """A finding for each rule that makes a decision too slow, of the slowest decisions.

    modules: path -> syntax tree.
    """
    found: dict[str, Finding] = {}
    confirmed = 0
    for each in sorted(timed, key=_duration, reverse=True):
        if confirmed == _NAMED or not each.too_long:
            break
        again = await _fastest(trial, each, repeats=_REPEATS, enough_ns=BUDGET_NS)
        if again.too_long:
            confirmed += 1
            rule, finding = _finding(again, await trial.profile(again.question.item), modules)
            found.setdefault(rule, finding)
    return list(found.values())


async def _fastest(trial: RulebookTrial, timed: Timed, *, repeats: int, enough_ns: int = 0) -> Timed:
    """The fastest of some runs, or the first that took no longer than `enough_ns`."""
    best = timed
    for number in range(repeats):
        hopeless = number >= _FEW_REPEATS and _duration(best) > _FAR_NS
        if timed.duration_ns is None or _duration(best) <= enough_ns or hopeless:
            break
        best = min(best, *await measure(trial, [timed.question]), key=_duration)
    return best


def _duration(timed: Timed) -> int:
    """In nanoseconds; no answer in time is longer than any."""
    return 2**63 if timed.duration_ns is None else timed.duration_ns


def _finding(timed: Timed, costs: Sequence[Cost], modules: Mapping[str, Node]) -> tuple[str, Finding]:
    """The rule that takes most of the time, and what is to be said of it."""
    question = timed.question
    place = question.file if question.line is None else f"{question.file}:{question.line}"
    asked = f"'{question.title}' ({place})"
    if timed.duration_ns is None:
        took = f"deciding {asked} gave no answer in time"
    else:
        took = f"deciding {asked} takes {timed.duration_ns / 1e6:.1f} ms"
    said = f"{took}; a decision may take {BUDGET_NS / 1e6:g} ms".replace("; ", ", and ")
    rules = _by_rule(costs, modules)
    if not rules:
        return "", Finding(question.file, question.line, said, "make its rules simpler")
    rule, of_rule = max(rules.items(), key=lambda pair: sum(cost.duration_ns for cost in pair[1]))
    line = max(of_rule, key=lambda cost: cost.duration_ns)
    share = sum(cost.duration_ns for cost in of_rule) / max(1, sum(cost.duration_ns for cost in costs))
    what = f"{rule} is too slow: {said}, {share:.0%} of it here"
    return rule, Finding(
        line.file, line.line, what, "do less in it, or ask the data by key instead of searching it"
    )


def _by_rule(costs: Sequence[Cost], modules: Mapping[str, Node]) -> Mapping[str, list[Cost]]:
    found: dict[str, list[Cost]] = defaultdict(list)
    for cost in costs:
        if cost.file in modules:
            found[_rule_at(modules[cost.file], cost.line)].append(cost)
    return found


def _rule_at(module: Node, line: int) -> str:
    """The data path of the rule that stands on a line."""
    name = "the module"
    for start, rule in _rules(module):
        if start <= line:
            name = str(node(rule.get("head")).get("name"))
    return dotted(("data", *package_path(module), name))


def _rules(module: Node) -> Iterator[tuple[int, Node]]:
    for rule in nodes(module.get("rules")):
        yield line_in(rule, 1), rule
