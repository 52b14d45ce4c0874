"""This instance's part in the agreement: the first revision of an exchange, joining, leaving."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from broker.app.ahead import LookAhead
from broker.app.config import Config
from broker.app.ledger import OpenLedger
from broker.app.stores import Stores
from broker.core.control.applier import Applier, PreparationFailed
from broker.core.control.confirming import Confirming
from broker.core.control.desk import ControlDesk
from broker.core.control.fold import EventVoid
from broker.core.control.members import Member
from broker.core.control.runtime import ControlRuntime, ControlSettings
from broker.core.evidence import Evidence
from broker.core.ledger.leaf import EntryInvalid, open_entry
from broker.core.regime import Regime
from broker.core.rulebook.keeping import Keeper
from broker.errors import EntenteError, Reason, RulebookRefused, StorageUnavailable
from broker.model.ledger import EncodedEntry, JsonValue, ReadPoint
from broker.ports.clock import Clock
from broker.ports.control import LedgerFence
from broker.ports.ledger_log import LedgerReader

_RUN_BYTES = 8
_OF_A_START = frozenset({"configuration", "key_rotated", "clock_step"})


async def followed(config: Config, stores: Stores, clock: Clock) -> ControlRuntime:
    """What was agreed on so far, and all that comes. Raises StorageUnavailable, also for a log that was lost."""
    settings = ControlSettings(config.ledger.instance, secrets.token_hex(_RUN_BYTES), config.control.lease_s)
    runtime = ControlRuntime(stores.control_log, settings, clock, _boot_s)
    await runtime.follow()
    is_new = not runtime.state.activations.number
    if is_new and not config.control.insecure_begin_anew and await _has_served(stores.ledger_log):
        raise StorageUnavailable(
            "the control log is empty, but a ledger says that the exchange has served: its revision and suspensions are"
            " lost; restore the control log from a copy, or waive it with control.insecure_begin_anew"
        )
    return runtime


async def _has_served(ledger: LedgerReader) -> bool:
    """Whether some instance's ledger holds more than what starts enter before the genesis is in the control log."""
    for instance in await ledger.instances():
        async for page in ledger.read(instance, ReadPoint()):
            if not all(map(_is_of_first_start, page.entries)):
                return True
    return False


def _is_of_first_start(encoded: EncodedEntry) -> bool:
    try:
        _, entry = open_entry(encoded)
    except EntryInvalid:
        return False
    change = entry.body.get("change")
    is_genesis = isinstance(change, dict) and change.get("what") == "genesis"
    return is_genesis or entry.kind in _OF_A_START


def control_desk(
    runtime: ControlRuntime, fence: LedgerFence, evidence: Evidence, clock: Clock
) -> ControlDesk:
    """What use cases ask; it accounts for each instance that it fences."""

    async def account_fenced(member: Member) -> None:
        await evidence.write("instance_fenced", {"change": {"instance": member.instance, "run": member.run}})

    return ControlDesk(runtime, Confirming(runtime, fence, account_fenced), clock)


async def account_genesis(desk: ControlDesk, evidence: Evidence, keeper: Keeper, regime: Regime) -> None:
    """At the first start of an exchange, before anything else is in force: its rulebook, which nobody had approved.

    The ledger names the first administrators, by whom every later change is approved. Of instances that start at once the
    first counts. Raises StorageUnavailable.
    """
    if desk.state.activations.number:
        return
    body: dict[str, JsonValue] = {"revision": regime.rules.revision, "engine": regime.rules.engine}
    listed: dict[str, JsonValue] = {
        agency: list(subjects) for agency, subjects in regime.registry.administrators.items()
    }
    try:
        change: dict[str, JsonValue] = {"what": "genesis", **body, "administrators": listed}
        await evidence.write("rulebook_changed", _by_nobody(change))
        await keeper.keep_first()
        await desk.record("genesis", body)
    except EventVoid:
        return
    except EntenteError as error:
        raise StorageUnavailable(str(error)) from None


@asynccontextmanager
async def membership(
    runtime: ControlRuntime,
    desk: ControlDesk,
    applier: Applier,
    ledger: OpenLedger,
    revision: str,
    ahead: LookAhead,
) -> AsyncIterator[None]:
    """Belong to the exchange inside the block: what is agreed on is in force here, and the ledger is this instance's.

    Raises StorageUnavailable, and RulebookRefused if what is in force elsewhere cannot be put in force here.
    """
    runtime.stopped.add_done_callback(lambda stopped: ledger.writer.stop(stopped.result()))
    looking = asyncio.get_running_loop().create_task(ahead.follow(runtime))
    try:
        await runtime.join(applier, revision, ledger.epoch)
        ledger.writer.may_release = runtime.may_release
        yield
    except PreparationFailed as error:
        raise RulebookRefused((f"the revision in force: {error}",)) from None
    finally:
        looking.cancel()
        await asyncio.wait([looking])
        await desk.close()
        await runtime.leave()


async def activate_directory(desk: ControlDesk, evidence: Evidence, revision: str) -> None:
    """For development (`insecure_from_directory`): put in force what nobody approved.

    Raises RulebookRefused, StorageUnavailable.
    """
    present = desk.state.activations.revision
    if present == revision:
        return
    change: dict[str, JsonValue] = {
        "what": "activated",
        "revision": revision,
        "parent": present,
        "insecure_from_directory": True,
    }
    try:
        await evidence.write("rulebook_changed", _by_nobody(change))
        await desk.activate(revision, by={}, proposal=None, rollback=False)
    except EntenteError as error:
        if error.reason is Reason.ACTIVATION_FAILED:
            raise RulebookRefused((error.detail,)) from None
        raise StorageUnavailable(str(error)) from None


def _by_nobody(change: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """The parts of an entry about what no call had asked for."""
    nobody: dict[str, JsonValue] = {"agency": "", "subject": "", "token": "", "certificate": None}
    return {"who": {**nobody, "roles": [], "attributes": {}}, "change": change, "decisions": []}


def _boot_s() -> float:
    """Seconds that go on while the machine is suspended, unlike those of CLOCK_MONOTONIC."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
