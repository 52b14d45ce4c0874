"""The side of an exchange that says why."""

from __future__ import annotations

from broker.adapters.opa.check import OpaCompiler
from broker.adapters.opa.tracer import OpaTracer
from broker.app.foundation import Foundation
from broker.core.administer import AdminAccess
from broker.core.audit.access import AuditAccess
from broker.core.audit.fresh import FreshIndex
from broker.core.audit.readings import Readings
from broker.core.explain.desk import ExplainDesk
from broker.core.explain.explainer import Explainer
from broker.core.rulebook.library import RulebookLibrary
from broker.rpc.explaining import ExplainServicer


def explaining(base: Foundation, ledger: FreshIndex) -> ExplainServicer:
    """The method Rulebook.Explain."""
    opened, in_force = base.opened, base.in_force
    desk = ExplainDesk(
        in_force=in_force,
        access=AdminAccess(in_force, opened.clock),
        library=RulebookLibrary(opened.stores.rulebooks, base.control, OpaCompiler(opened.opa).parse),
        readings=Readings(AuditAccess(in_force, opened.clock), ledger, base.evidence),
        explainer=Explainer(OpaTracer(opened.opa)),
        clock=opened.clock,
    )
    return ExplainServicer(desk)
