"""The side of an exchange that changes its rulebook: the service Rulebook."""

from __future__ import annotations

from dataclasses import dataclass

from broker.adapters.opa.check import OpaCompiler
from broker.app.examiner import ExaminerProcess
from broker.app.foundation import Foundation, Opened
from broker.app.simulator import SimulatorProcess
from broker.core.administer import AdminAccess
from broker.core.control.members import Member
from broker.core.ledger.signing import LedgerKeys
from broker.core.rulebook.checking import Checking
from broker.core.rulebook.desk import RulebookDesk
from broker.core.rulebook.entries import ChangeEntries
from broker.core.rulebook.keeping import Keeper
from broker.core.rulebook.library import RulebookLibrary
from broker.core.rulebook.manifest import manifest_origin
from broker.core.rulebook.proposing import ProposingDesk
from broker.core.rulebook.reading import ReadingDesk
from broker.core.simulate.desk import SimulationDesk
from broker.rpc.rulebook import RulebookServicer


@dataclass(frozen=True, slots=True)
class Administering:
    """What the server serves, and what it must stop."""

    servicer: RulebookServicer
    proposing: ProposingDesk


def administering(base: Foundation) -> Administering:
    """The service Rulebook."""
    opened, in_force, control = base.opened, base.in_force, base.control
    access = AdminAccess(in_force, opened.clock)
    library = RulebookLibrary(opened.stores.rulebooks, control, OpaCompiler(opened.opa).parse)
    entries = ChangeEntries(in_force, base.evidence)
    checking = Checking(ExaminerProcess(opened.opa), control, base.evidence)
    leases = opened.control.leases

    def is_live(member: Member) -> bool:
        return member == opened.control.member or not leases.has_lapsed(member)

    desk = RulebookDesk(access=access, control=control, library=library, entries=entries)
    proposing = ProposingDesk(
        in_force=in_force,
        access=access,
        control=control,
        library=library,
        desk=desk,
        entries=entries,
        keeper=keeper_of(opened),
        checking=checking,
    )
    servicer = RulebookServicer(
        proposing=proposing,
        desk=desk,
        reading=ReadingDesk(
            in_force=in_force, access=access, control=control, library=library, is_live=is_live
        ),
        simulations=SimulationDesk(
            access=access,
            library=library,
            evidence=base.evidence,
            simulator=SimulatorProcess(opened.opa, opened.config.backend),
            clock=opened.clock,
        ),
        quotas=base.quotas,
        idle_s=opened.config.limits.slow_consumer_s,
        message_bytes=opened.config.limits.message_bytes,
    )
    return Administering(servicer, proposing)


def keeper_of(opened: Opened) -> Keeper:
    """Keeps revisions, and signs their manifests with the exchange's ledger key."""
    exchange = opened.config.exchange.name
    keys = LedgerKeys(opened.keys, exchange)
    signer = keys.signer(manifest_origin(exchange), keys.current_id)
    return Keeper(opened.stores.rulebooks, signer, opened.in_force, opened.clock)
