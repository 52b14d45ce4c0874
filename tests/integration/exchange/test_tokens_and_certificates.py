"""Bad tokens of every kind at the wire, and tokens that are bound to a client certificate (RFC 8705)."""

from __future__ import annotations

import base64
import time
from typing import Any

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from broker.app.tokens import read_issuer_key, read_thumbprint
from protos.entente.v1 import catalog_pb2, catalog_pb2_grpc
from tests.integration.exchange.failure import Failure, failure_in
from tests.integration.exchange.live import AUDIENCE, Live

pytestmark = [pytest.mark.opa, pytest.mark.asyncio(loop_scope="session")]

Metadata = tuple[tuple[str, str], ...]


def bearer(token: str) -> Metadata:
    return (("authorization", f"Bearer {token}"),)


async def refused(channel: grpc.aio.Channel, metadata: Metadata) -> Failure:
    stub = catalog_pb2_grpc.CatalogStub(channel)
    failure = await failure_in(stub.WhoAmI(catalog_pb2.WhoAmIRequest(), metadata=metadata, timeout=20))
    failure.check_shape()
    return failure


def signed(live: Live, agency: str, claims: dict[str, Any], **header: Any) -> str:
    """A token of ems's claims with changes, signed with the key of `agency`; a value of ... leaves the claim out."""
    key = read_issuer_key(live.directory / "issuers" / f"{agency}.json")
    now = int(time.time())
    good = {
        "iss": "https://ems.example/issuer",
        "sub": "paramedic-1",
        "aud": AUDIENCE,
        "iat": now,
        "nbf": now,
        "exp": now + 600,
        "jti": "j",
        "roles": ["paramedic"],
        "purposes": ["emergency-response"],
        "attributes": {"clearance": "red"},
    }
    members = {name: value for name, value in {**good, **claims}.items() if value is not ...}
    return jwt.encode(members, key.key, algorithm="EdDSA", headers={"kid": key.key_id, **header})


CLAIMS: dict[str, tuple[dict[str, Any], str]] = {
    "expired": ({"iat": 1_000, "nbf": 1_000, "exp": 1_600}, "TOKEN_EXPIRED"),
    "not yet valid": (
        {"nbf": 4_000_000_000, "iat": 4_000_000_000, "exp": 4_000_000_600},
        "TOKEN_NOT_YET_VALID",
    ),
    "another audience": ({"aud": "another-exchange"}, "TOKEN_INVALID"),
    "no audience": ({"aud": ...}, "TOKEN_INVALID"),
    "no end": ({"exp": ...}, "TOKEN_INVALID"),
    "no subject": ({"sub": ...}, "TOKEN_INVALID"),
    "too long a life": ({"exp": int(time.time()) + 90_000}, "CLAIM_NOT_PERMITTED"),
    "a role of others": ({"roles": ["officer"]}, "CLAIM_NOT_PERMITTED"),
    "a purpose of others": ({"purposes": ["law-enforcement"]}, "CLAIM_NOT_PERMITTED"),
    "another agency's issuer": ({"iss": "https://transport.example/issuer"}, "TOKEN_INVALID"),
    "unknown issuer": ({"iss": "https://nobody.example/issuer"}, "TOKEN_INVALID"),
}


@pytest.mark.parametrize(("claims", "reason"), CLAIMS.values(), ids=CLAIMS)
async def test_claims_that_are_not_accepted(live: Live, claims: dict[str, Any], reason: str) -> None:
    failure = await refused(live.channel, bearer(signed(live, "ems", claims)))
    assert (failure.code, failure.reason) == (grpc.StatusCode.UNAUTHENTICATED, reason)


async def test_a_token_that_another_agency_signed(live: Live) -> None:
    failure = await refused(live.channel, bearer(signed(live, "transport", {})))
    assert failure.reason == "TOKEN_INVALID"


@pytest.mark.parametrize("key_id", ["unknown", "", "../ems", "x" * 1000])
async def test_an_unknown_key_id(live: Live, key_id: str) -> None:
    failure = await refused(live.channel, bearer(signed(live, "ems", {}, kid=key_id)))
    assert failure.reason == "TOKEN_INVALID"


async def test_a_key_of_ones_own_under_a_known_id(live: Live) -> None:
    known = read_issuer_key(live.directory / "issuers" / "ems.json").key_id
    forged = jwt.encode(
        {"iss": "https://ems.example/issuer"}, Ed25519PrivateKey.generate(), "EdDSA", headers={"kid": known}
    )
    assert (await refused(live.channel, bearer(forged))).reason == "TOKEN_INVALID"


async def test_a_stripped_or_unsigned_token(live: Live) -> None:
    header, claims, _ = live.token("ems").split(".")
    none = base64.urlsafe_b64encode(b'{"alg":"none"}').rstrip(b"=").decode()
    for token in (f"{header}.{claims}.", f"{header}.{claims}", f"{none}.{claims}.", "x", "a.b.c", "." * 50):
        assert (await refused(live.channel, bearer(token))).reason == "TOKEN_INVALID"


async def test_metadata_that_carries_no_one_token(live: Live) -> None:
    good = live.token("ems")
    wrong: dict[str, Metadata] = {
        "none": (),
        "twice": bearer(good) + bearer(good),
        "a good one and a bad one": bearer(good) + bearer("x"),
        "a scheme of another kind": (("authorization", f"Basic {good}"),),
        "without a scheme": (("authorization", good),),
        "a scheme alone": (("authorization", "Bearer"),),
        "empty": (("authorization", ""),),
        "under another name": (("x-authorization", f"Bearer {good}"),),
        "in the binary form": (("authorization-bin", f"Bearer {good}"),),
    }
    for name, metadata in wrong.items():
        sent: Any = [(key, value.encode() if key.endswith("-bin") else value) for key, value in metadata]
        assert (await refused(live.channel, sent)).reason == "TOKEN_MISSING", name


async def test_the_scheme_is_case_insensitive(live: Live) -> None:
    metadata = (("authorization", f"bearer {live.token('ems')}"),)
    me = await catalog_pb2_grpc.CatalogStub(live.channel).WhoAmI(
        catalog_pb2.WhoAmIRequest(), metadata=metadata
    )
    assert (me.agency, me.subject, list(me.roles)) == ("ems", "paramedic-1", ["paramedic"])


async def test_a_bound_token_counts_with_its_certificate_only(live: Live) -> None:
    thumbprint = read_thumbprint(live.directory / "tls/clients/ems.pem")
    metadata = bearer(live.token("ems", thumbprint=thumbprint))
    accepted = catalog_pb2_grpc.CatalogStub(live.mtls_channel("ems"))
    me = await accepted.WhoAmI(catalog_pb2.WhoAmIRequest(), metadata=metadata, timeout=20)
    assert me.agency == "ems"
    for channel in (live.channel, live.mtls_channel("transport")):
        failure = await refused(channel, metadata)
        assert (failure.code, failure.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_BINDING")


async def test_the_mtls_listener_wants_a_certificate(live: Live) -> None:
    assert live.ready.mtls_address is not None
    ca = (live.directory / "tls/ca.pem").read_bytes()
    async with grpc.aio.secure_channel(live.ready.mtls_address, grpc.ssl_channel_credentials(ca)) as channel:
        stub = catalog_pb2_grpc.CatalogStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.WhoAmI(catalog_pb2.WhoAmIRequest(), metadata=bearer(live.token("ems")), timeout=20)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_refusals_before_identity_are_counted_not_listed(live: Live) -> None:
    """They are in the ledger by peer and reason after a minute or at the end, see test_the_end."""
    before = len(live.ledger())
    for _ in range(50):
        await refused(live.channel, bearer("x"))
    assert len(live.ledger()) == before
