"""Keys by URL: caching, rotation, rate limit, one fetch at a time, and outages; without a network."""

from __future__ import annotations

import asyncio

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from broker.adapters.jwt.identity import JwtIdentity
from broker.adapters.jwt.issuers import RETRY_S, FetchedKeys, JwksSettings
from broker.errors import EntenteError, Reason
from broker.model.registry import Issuer
from tests.fakes.clock import TurnedClock
from tests.fakes.issuers import AUDIENCE, EMS, agency, claims, jwks, public_jwk, registry, sign

OLD, NEW = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
SETTINGS = JwksSettings(ttl_s=300, stale_s=600, timeout_s=5)


class Site:
    """An issuer's site: what it serves may change, fail or hang."""

    def __init__(self, *keys: dict[str, object]) -> None:
        self.content = jwks(*keys)
        self.error: Exception | None = None
        self.open = asyncio.Event()
        self.open.set()
        self.asked = asyncio.Event()
        self.fetches = 0

    async def fetch(self) -> bytes:
        self.fetches += 1
        self.asked.set()
        await self.open.wait()
        if self.error is not None:
            raise self.error
        return self.content


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


@pytest.fixture
def site() -> Site:
    return Site(public_jwk(OLD, "old"))


@pytest.fixture
def keys(site: Site, clock: TurnedClock) -> FetchedKeys:
    return FetchedKeys(EMS, site.fetch, SETTINGS, clock)


async def test_a_set_is_fetched_once_while_it_is_fresh(
    keys: FetchedKeys, site: Site, clock: TurnedClock
) -> None:
    assert await keys.find("old") is not None
    clock.advance(299)
    assert await keys.find("old") is not None
    assert site.fetches == 1
    clock.advance(1)
    assert await keys.find("old") is not None
    assert site.fetches == 2


async def test_an_unknown_key_id_fetches_again_but_not_often(
    keys: FetchedKeys, site: Site, clock: TurnedClock
) -> None:
    await keys.find("old")
    site.content = jwks(public_jwk(NEW, "new"))
    for made_up in range(20):
        assert await keys.find(f"made-up-{made_up}") is None
    assert site.fetches == 1
    clock.advance(RETRY_S)
    assert await keys.find("new") is not None
    assert await keys.find("old") is None
    assert site.fetches == 2


async def test_callers_share_one_fetch_and_none_takes_it_from_the_others(
    keys: FetchedKeys, site: Site
) -> None:
    site.open.clear()
    callers = [asyncio.create_task(keys.find("old")) for _ in range(10)]
    await asyncio.sleep(0)
    callers[0].cancel()
    site.open.set()
    found = await asyncio.gather(*callers, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert all(key is not None and not isinstance(key, BaseException) for key in found[1:])
    assert site.fetches == 1


@pytest.mark.parametrize("error", [OSError("down"), TimeoutError(), RuntimeError("odd")])
async def test_known_keys_outlive_an_outage_for_a_bounded_time(
    keys: FetchedKeys, site: Site, clock: TurnedClock, error: Exception
) -> None:
    await keys.find("old")
    site.error = error
    clock.advance(899)
    assert await keys.find("old") is not None
    clock.advance(1)
    with pytest.raises(EntenteError) as caught:
        await keys.find("old")
    assert caught.value.reason is Reason.ISSUER_UNAVAILABLE
    site.error = None
    clock.advance(RETRY_S)
    assert await keys.find("old") is not None


@pytest.mark.parametrize("content", [b"<html>", b"{}", jwks(public_jwk(OLD, "old", d="AAAA"))])
async def test_an_unusable_answer_is_an_outage(keys: FetchedKeys, site: Site, content: bytes) -> None:
    site.content = content
    with pytest.raises(EntenteError) as caught:
        await keys.find("old")
    assert caught.value.reason is Reason.ISSUER_UNAVAILABLE


async def test_a_failing_site_is_not_asked_more_often(
    keys: FetchedKeys, site: Site, clock: TurnedClock
) -> None:
    site.error = OSError("down")
    for _ in range(5):
        with pytest.raises(EntenteError):
            await keys.find("old")
    assert site.fetches == 1
    clock.advance(RETRY_S)
    with pytest.raises(EntenteError):
        await keys.find("old")
    assert site.fetches == 2


async def test_a_hanging_site_is_given_up(site: Site, clock: TurnedClock) -> None:
    site.open.clear()
    keys = FetchedKeys(EMS, site.fetch, JwksSettings(timeout_s=0.01), clock)
    with pytest.raises(EntenteError) as caught:
        await keys.find("old")
    assert caught.value.reason is Reason.ISSUER_UNAVAILABLE


async def test_close_stops_a_fetch_and_its_callers_get_an_answer(keys: FetchedKeys, site: Site) -> None:
    site.open.clear()
    caller = asyncio.create_task(keys.find("old"))
    await site.asked.wait()
    await keys.close()
    with pytest.raises(EntenteError):
        await caller
    await keys.close()


async def test_a_token_of_a_removed_key_is_refused_though_it_was_remembered(
    site: Site, clock: TurnedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.adapters.jwt.identity.fetcher", lambda url, settings: site.fetch)
    registered = registry(agency("ems", Issuer(EMS, jwks_url="https://ems.example/keys")))
    identity = JwtIdentity(registered, {}, audience=AUDIENCE, clock=clock, jwks=SETTINGS)
    old = sign(claims(clock.now_ms()), OLD, kid="old")
    new = sign(claims(clock.now_ms()), NEW, kid="new")
    assert (await identity.authenticate(old, None)).agency == "ems"

    site.content = jwks(public_jwk(OLD, "old"), public_jwk(NEW, "new"))
    clock.advance(RETRY_S)
    for token in (old, new):
        assert (await identity.authenticate(token, None)).agency == "ems"

    site.content = jwks(public_jwk(NEW, "new"))
    clock.advance(SETTINGS.ttl_s)
    with pytest.raises(EntenteError) as caught:
        await identity.authenticate(old, None)
    assert caught.value.reason is Reason.TOKEN_INVALID
    assert (await identity.authenticate(new, None)).agency == "ems"

    # The same id with another key: what was remembered under it no longer counts.
    site.content = jwks(public_jwk(OLD, "new"))
    clock.steady_s += SETTINGS.ttl_s
    with pytest.raises(EntenteError) as caught:
        await identity.authenticate(new, None)
    assert caught.value.reason is Reason.TOKEN_INVALID
    await identity.close()
