"""The interceptors of every call, in one ordered list: ledger, errors, identity, limits (house style)."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from google.protobuf.message import DecodeError

from broker.core.evidence import Evidence, decisions, who
from broker.core.in_force import InForce
from broker.core.regime import Regime
from broker.core.restrictions import require_caller
from broker.errors import EntenteError, Reason, fault_place
from broker.model.ledger import JsonValue
from broker.model.principal import Principal
from broker.ports.clock import Clock
from broker.rpc.call import Call, Interceptor, Method
from broker.rpc.quotas import Quotas
from broker.rpc.status import abort

log = logging.getLogger(__name__)

_COUNTED = frozenset({Reason.LIMIT_EXCEEDED, Reason.SUSPENDED})
"""Refusals that a known caller can have without limit."""

MAX_PEERS = 10_000
"""Peers told apart in one minute's count of unauthenticated calls; the rest is counted together."""


def chain(interceptors: Sequence[Interceptor], method: Method) -> Method:
    """The method behind the interceptors, the first outermost."""
    for interceptor in reversed(interceptors):
        method = _link(interceptor, method)
    return method


def _link(interceptor: Interceptor, method: Method) -> Method:
    async def linked(call: Call) -> None:
        await interceptor(call, method)

    return linked


class LedgerInterceptor:
    """Accounts for refused calls and then answers them.

    Those without a known caller are counted per peer and minute (rule 3), those over a limit or of who is suspended per
    agency and minute: calls that cost their caller nothing must not fill the ledger.
    """

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._counted: Counter[tuple[str, str, str]] = Counter()

    async def __call__(self, call: Call, proceed: Method) -> None:
        """Answers every EntenteError with its status."""
        try:
            await proceed(call)
        except EntenteError as error:
            await self._account(call, error)
            await abort(call.context, error, call.reference)

    async def flush(self) -> None:
        """Write the counts since the last flush; if the ledger cannot take them they are kept."""
        counted, self._counted = self._counted, Counter()
        for (what, whose, reason), count in counted.items():
            try:
                refused: JsonValue = {what: whose, "reason": reason, "count": count}
                await self._evidence.write("refused_aggregate", {"refused": refused})
            except EntenteError:
                self._counted[what, whose, reason] += count

    async def flush_each_minute(self) -> None:
        """Runs until it is cancelled."""
        while True:
            await asyncio.sleep(60)
            await self.flush()

    async def _account(self, call: Call, error: EntenteError) -> None:
        if call.principal is None:
            known = ("peer", call.peer, error.reason.name) in self._counted
            peer = call.peer if known or len(self._counted) < MAX_PEERS else "others"
            self._counted["peer", peer, error.reason.name] += 1
            return
        if call.accounted:
            return
        if error.reason in _COUNTED:
            self._counted["agency", call.principal.agency, error.reason.name] += 1
            return
        refused: JsonValue = {
            "method": call.method,
            "reason": error.reason.name,
            "reference": call.reference,
        }
        why = decisions(error.decisions, self._evidence.rules)
        body = {"who": who(call.principal), "call": refused, "decisions": why}
        try:
            await self._evidence.write("call_refused", body)
        except EntenteError:
            log.error(
                "a refused call is not in the ledger: reference=%s reason=%s",
                call.reference,
                error.reason.name,
            )


async def errors_interceptor(call: Call, proceed: Method) -> None:
    """Turns what is no EntenteError into one; the log names type and place, never a message, which could hold content."""
    try:
        await proceed(call)
    except EntenteError:
        raise
    except DecodeError:
        raise EntenteError(Reason.REQUEST_INVALID, "it is not the method's protobuf message") from None
    except Exception as error:  # noqa: BLE001 - the last resort of every call
        log.error(
            "call failed: method=%s reference=%s error=%s", call.method, call.reference, fault_place(error)
        )
        raise EntenteError(Reason.INTERNAL) from None


class IdentityInterceptor:
    """From metadata and certificate to a principal."""

    def __init__(self, in_force: InForce[Regime], clock: Clock) -> None:
        self._in_force = in_force
        self._clock = clock

    async def __call__(self, call: Call, proceed: Method) -> None:
        """Raises the identity part of the catalogue, and SUSPENDED."""
        call.principal = await self.principal(call, bearer_token(call))
        require_caller(self._in_force.present, call.principal, self._clock.now_ms())
        await proceed(call)

    async def principal(self, call: Call, token: str) -> Principal:
        """The principal of a token on this call's connection."""
        certificate = client_certificate(call.context.auth_context())
        while True:
            regime = self._in_force.present.regime
            principal = await regime.identity.authenticate(token, certificate)
            if regime is self._in_force.present.regime:  # else keys were fetched meanwhile, for what is over
                return principal


def bearer_token(call: Call) -> str:
    """The one `authorization: Bearer` value (RFC 6750 §2.1); raises TOKEN_MISSING, also if there are several."""
    values = [value for key, value in call.context.invocation_metadata() or () if key == "authorization"]
    if len(values) != 1 or not isinstance(values[0], str):
        raise EntenteError(Reason.TOKEN_MISSING)
    scheme, _, token = values[0].partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise EntenteError(Reason.TOKEN_MISSING)
    return token.strip()


def client_certificate(auth_context: Mapping[str, Iterable[bytes]]) -> bytes | None:
    """The verified client certificate in DER form; None on the listener that asks for none."""
    pem = next(iter(auth_context.get("x509_pem_cert", ())), None)
    if pem is None:
        return None
    return x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)


class LimitsInterceptor:
    """Per-agency limits on calls and streams (rule 8)."""

    def __init__(self, quotas: Quotas, message_bytes: int) -> None:
        self._quotas = quotas
        self._message_bytes = message_bytes

    async def __call__(self, call: Call, proceed: Method) -> None:
        """Raises LIMIT_EXCEEDED or MESSAGE_TOO_LARGE."""
        if len(call.request) > self._message_bytes:
            raise EntenteError(Reason.MESSAGE_TOO_LARGE, str(self._message_bytes))
        self._quotas.take_call(call.caller.agency)
        await proceed(call)
