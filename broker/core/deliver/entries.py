"""The entries that a group writes: `delivery` before a batch leaves, and `engine_fault` before faulty records are passed."""

from __future__ import annotations

from collections.abc import Sequence

from broker.core.deliver.history import History
from broker.core.deliver.prepare import Prepared
from broker.core.deliver.session import Session
from broker.core.evidence import Evidence, list_of
from broker.core.ledger.entry_secret import EntrySecret
from broker.core.ledger.handed_out import handed_out_root
from broker.core.ledger.runs import runs_of
from broker.model.ledger import JsonValue, LedgerEntry
from broker.model.principal import SubjectClass


def delivery_entry(
    evidence: Evidence,
    group: JsonValue,
    receivers: Sequence[Session],
    prepared: Prepared,
    secret: EntrySecret,
) -> LedgerEntry:
    """What all receivers are about to be handed, and what was considered for each since its last entry.

    group: as `group_class` has it.
    """
    account, rules = prepared.account, prepared.order.regime.rules
    histories: dict[int, tuple[History, list[JsonValue]]] = {}
    for number, member in enumerate(receivers):
        histories.setdefault(id(member.history), (member.history, []))[1].append(number)
    # Which history is whose stands here and not in `receivers`: to a receiver that is shown its own item, the number of a
    # second history would say that something was withheld.
    considered = [
        {**history.extended(account.considered, prepared.standing).as_json(rules), "receivers": whose}
        for history, whose in histories.values()
    ]
    body: dict[str, JsonValue] = {
        "class": group,
        "receivers": list_of([receiver(member) for member in receivers]),
        "count": len(account.places),
        "digest": secret.as_json(),
        "places": runs_of(account.places),
        "decisions": account.decisions,
        "considered": list_of(considered),
    }
    root = handed_out_root(secret.secret, account.contents)
    return evidence.entry("delivery", body, {"handed_out": root}, order=prepared.order)


def fault_entry(evidence: Evidence, group: JsonValue, prepared: Prepared) -> LedgerEntry:
    """What the rulebook has no answer for is withheld, and its places are kept: a seek delivers it later (rule 1)."""
    body: dict[str, JsonValue] = {"class": group, "faulted": prepared.account.faulted}
    return evidence.entry("engine_fault", body, order=prepared.order)


def group_class(topic: str, subject: SubjectClass) -> JsonValue:
    """What all receivers of a batch have in common."""
    return {
        "topic": topic,
        "agency": subject.agency,
        "roles": list(subject.roles),
        "attributes": dict(subject.attributes),
        "purpose": subject.purpose,
    }


def receiver(member: Session) -> JsonValue:
    """One of the items of `receivers`."""
    return {
        "subject": member.principal.subject,
        "token": member.principal.token_id,
        "certificate": member.principal.certificate_thumbprint,
        "subscription": member.binding.subscription,
        "epoch": member.epoch,
        "stream": member.stream,
    }
