"""A principal of an earlier revision: whether a later one would still make it of its token."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from broker.adapters.jwt.identity import JwtIdentity
from broker.adapters.jwt.issuers import FetchedKeys
from broker.errors import EntenteError, Reason
from broker.model.principal import Principal
from broker.model.registry import Agency, Issuer, Registry, Vocabulary
from tests.fakes.clock import TurnedClock
from tests.fakes.issuers import (
    AUDIENCE,
    EMS,
    EMS_KEY,
    POLICE_KEY,
    VOCABULARY,
    agency,
    claims,
    files,
    jwks,
    public_jwk,
    registry,
    sign,
)

ROTATED = {"keys/ems.json": jwks(public_jwk(EMS_KEY, "ed", use="sig"))}


def identity(known: Registry, held: dict[str, bytes] | None = None, **more: Any) -> JwtIdentity:
    return JwtIdentity(known, files() | (held or {}), audience=AUDIENCE, clock=TurnedClock(), **more)


async def accepted() -> Principal:
    """By the first revision."""
    told = claims(
        TurnedClock().now_ms(),
        roles=["medic"],
        purposes=["care"],
        attributes={"clearance": "amber", "region": "north"},
    )
    return await identity(registry()).authenticate(sign(told), None)


def ems(**changes: Any) -> Agency:
    return replace(agency("ems", Issuer(EMS, jwks_file="keys/ems.json")), **changes)


def words(**changes: Any) -> Vocabulary:
    return replace(VOCABULARY, **changes)


async def test_what_has_not_changed_is_confirmed() -> None:
    await identity(registry()).confirm(await accepted())
    await identity(registry(ems()), ROTATED).confirm(await accepted())


LATER: dict[str, Callable[[], tuple[Registry, dict[str, bytes]]]] = {
    "the agency is gone": lambda: (registry(agency("fire")), {}),
    "the issuer is gone": lambda: (registry(ems(issuers=())), {}),
    "the issuer is another agency's": lambda: (registry(replace(ems(), name="fire")), {}),
    "the key is gone": lambda: (
        registry(ems()),
        {"keys/ems.json": jwks(public_jwk(EMS_KEY, "ed-2", use="sig"))},
    ),
    "another key has its id": lambda: (
        registry(ems()),
        {"keys/ems.json": jwks(public_jwk(POLICE_KEY, "ed", use="sig"))},
    ),
}
BEYOND: dict[str, Callable[[], Registry]] = {
    "role": lambda: registry(ems(roles=frozenset({"volunteer"}))),
    "purpose": lambda: registry(ems(purposes=frozenset({"statistics"}))),
    "ceiling": lambda: registry(ems(attributes={"clearance": "green", "region": "north"})),
    "value": lambda: registry(ems(attributes={"clearance": "amber", "region": "south"})),
    "attribute": lambda: registry(ems(attributes={"clearance": "amber"})),
    "lifetime": lambda: registry(ems(max_token_lifetime_s=60)),
    "word": lambda: replace(
        registry(ems()), vocabulary=words(attributes={"clearance": VOCABULARY.attributes["clearance"]})
    ),
}


@pytest.mark.parametrize("change", LATER)
async def test_what_cannot_be_verified_any_more_is_refused(change: str) -> None:
    known, held = LATER[change]()
    with pytest.raises(EntenteError) as refused:
        await identity(known, held).confirm(await accepted())
    assert refused.value.reason is Reason.TOKEN_INVALID


@pytest.mark.parametrize("change", BEYOND)
async def test_what_is_claimed_beyond_the_later_registration_is_refused(change: str) -> None:
    with pytest.raises(EntenteError) as refused:
        await identity(BEYOND[change]()).confirm(await accepted())
    assert refused.value.reason is Reason.CLAIM_NOT_PERMITTED


async def test_a_narrower_use_of_the_same_key_counts() -> None:
    principal = await accepted()
    assert principal.credential is not None
    by_another = replace(principal, credential=replace(principal.credential, algorithm="ES256"))
    with pytest.raises(EntenteError):
        await identity(registry()).confirm(by_another)


async def test_nobody_is_confirmed_without_the_credential_of_a_token() -> None:
    with pytest.raises(EntenteError):
        await identity(registry()).confirm(replace(await accepted(), credential=None))


async def test_a_credential_names_no_secret_and_no_token() -> None:
    told = repr((await accepted()).credential)
    assert EMS in told
    assert sign(claims(TurnedClock().now_ms())).split(".")[2] not in told


async def test_fetched_keys_go_over_to_the_next_revision_and_are_closed_with_the_last() -> None:
    by_url = registry(ems(issuers=(Issuer(EMS, jwks_url="https://ems.example/jwks"),)))
    elsewhere = registry(ems(issuers=(Issuer(EMS, jwks_url="https://ems.example/other"),)))
    first = identity(by_url)
    second, third = identity(by_url, before=first), identity(elsewhere, before=first)
    (mine,), (shared,), (other,) = (list(each._fetched.values()) for each in (first, second, third))
    assert mine is shared
    assert mine is not other
    assert isinstance(mine, FetchedKeys)
    await first.close()
    await first.close()
    assert mine._users == 1
    await second.close()
    assert mine._users == 0
    await third.close()


async def test_a_key_that_cannot_be_fetched_now_is_no_refusal() -> None:
    by_url = registry(ems(issuers=(Issuer(EMS, jwks_url="https://ems.example/jwks"),)))
    later = identity(by_url)

    async def unreachable() -> bytes:
        raise OSError("scripted")

    later._fetched[EMS, "https://ems.example/jwks"]._fetch = unreachable
    with pytest.raises(EntenteError) as refused:
        await later.confirm(await accepted())
    assert refused.value.reason is Reason.ISSUER_UNAVAILABLE
