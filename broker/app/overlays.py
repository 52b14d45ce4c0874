"""The side of an exchange that suspends and withdraws: the service Overlays, and who sees to what follows."""

from __future__ import annotations

from broker.app.foundation import Foundation
from broker.core.administer import AdminAccess
from broker.core.audit.access import AuditAccess
from broker.core.audit.fresh import FreshIndex
from broker.core.audit.readings import Readings
from broker.core.overlay.announcing import Announcer, AnnouncerTools
from broker.core.overlay.asking import Asking
from broker.core.overlay.suspending import SuspensionDesk
from broker.core.overlay.withdrawing import WithdrawalDesk
from broker.rpc.overlays import OverlaysServicer


def announcer(base: Foundation, ledger: FreshIndex) -> Announcer:
    """Runs as long as the exchange serves."""
    opened = base.opened
    tools = AnnouncerTools(
        control=base.control,
        ledger=ledger,
        record_log=opened.stores.record_log,
        in_force=base.in_force,
        evidence=base.evidence,
        keys=opened.keys,
        clock=opened.clock,
        instance=opened.config.ledger.instance,
    )
    return Announcer(tools)


def overlays(base: Foundation, ledger: FreshIndex, announces: Announcer) -> OverlaysServicer:
    """The service Overlays."""
    opened = base.opened
    asking = Asking(AdminAccess(base.in_force, opened.clock), base.control, base.evidence, opened.clock)
    readings = Readings(AuditAccess(base.in_force, opened.clock), ledger, base.evidence)
    return OverlaysServicer(
        SuspensionDesk(asking, base.in_force),
        WithdrawalDesk(asking, readings, announces, opened.config.ledger.instance),
    )
