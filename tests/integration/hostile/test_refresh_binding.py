"""A refresh is bound like the call that opened the stream: a stolen bound token does not keep a stream alive."""

from __future__ import annotations

import pytest

from broker.app.tokens import read_thumbprint
from protos.entente.v1.exchange_pb2 import Credit, Open, Refresh
from tests.integration.exchange.live import Live, Stream

pytestmark = [pytest.mark.opa, pytest.mark.asyncio(loop_scope="session")]

_OPEN = Open(topic="crash-reports", purpose="emergency-response", credit=Credit(records=10))


def bound_token(live: Live, certificate: str) -> str:
    return live.token("ems", thumbprint=read_thumbprint(live.directory / f"tls/clients/{certificate}.pem"))


async def test_a_bound_token_refreshes_no_stream_without_its_certificate(live: Live) -> None:
    async with live.caller("ems").stream("crash-reports") as stream:
        await stream.opened()
        await stream.send(refresh=Refresh(token=bound_token(live, "ems")))
        assert (await stream.failure()).reason == "TOKEN_BINDING"


@pytest.mark.parametrize(("certificate", "reason"), [("ems", ""), ("transport", "TOKEN_BINDING")])
async def test_a_bound_token_refreshes_with_its_own_certificate_only(
    live: Live, certificate: str, reason: str
) -> None:
    caller = live.caller("ems", thumbprint=read_thumbprint(live.directory / "tls/clients/ems.pem"))
    caller.channel = live.mtls_channel("ems")
    stream = Stream(caller.exchange.Subscribe(metadata=caller.metadata, timeout=60))
    await stream.send(open=_OPEN)
    await stream.opened()
    await stream.send(refresh=Refresh(token=bound_token(live, certificate)))
    if reason:
        assert (await stream.failure()).reason == reason
    else:
        assert len(await stream.beats(2)) >= 2
        stream.call.cancel()
