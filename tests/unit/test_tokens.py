"""Development tokens: issuer keys in files, and tokens that the exchange accepts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from broker.adapters.jwt.binding import certificate_thumbprint
from broker.adapters.jwt.identity import JwtIdentity
from broker.app.config import ConfigError, Context, DevelopmentToken
from broker.app.pki import make_authority, make_client
from broker.app.tokens import (
    mint_token,
    new_issuer_key,
    read_issuer_key,
    read_token_file,
    token_for_context,
)
from broker.errors import EntenteError, Reason
from broker.model.registry import Issuer
from tests.fakes.clock import TurnedClock
from tests.fakes.issuers import AUDIENCE, EMS, agency, registry

KEY = new_issuer_key("ems", EMS)
CLOCK = TurnedClock()


@pytest.fixture
def identity() -> JwtIdentity:
    registered = registry(agency("ems", Issuer(EMS, jwks_file="keys/ems.json")))
    return JwtIdentity(registered, {"keys/ems.json": KEY.jwks_file()}, audience=AUDIENCE, clock=CLOCK)


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "ems.json"
    path.write_bytes(KEY.private_file())
    path.chmod(0o600)
    return path


def context(**values: object) -> Context:
    return Context.model_construct(endpoint="127.0.0.1:7443", **values)  # type: ignore[arg-type]


def development(key_file: Path) -> DevelopmentToken:
    return DevelopmentToken.model_construct(
        issuer_key=key_file,
        subject="medic-1",
        roles=["medic"],
        purposes=["care"],
        clearance="green",
        ttl_s=60,
    )


async def test_a_minted_token_is_accepted_with_its_claims(identity: JwtIdentity, key_file: Path) -> None:
    token = mint_token(
        read_issuer_key(key_file),
        subject="medic-1",
        roles=["medic"],
        purposes=["care"],
        attributes={"clearance": "green"},
        audience=AUDIENCE,
        ttl_s=60,
        clock=CLOCK,
    )
    principal = await identity.authenticate(token, None)
    assert principal.key == ("ems", "medic-1")
    assert principal.attributes == {"clearance": "green"}
    assert principal.expires_at.timestamp() == CLOCK.now_ms() // 1000 + 60


async def test_a_context_signs_its_own_token(identity: JwtIdentity, key_file: Path) -> None:
    token = token_for_context(context(development=development(key_file)), AUDIENCE, CLOCK)
    assert token is not None
    assert (await identity.authenticate(token, None)).purposes == ("care",)
    with pytest.raises(ConfigError, match=r"exchange\.audience"):
        token_for_context(context(development=development(key_file)), None, CLOCK)


async def test_a_context_with_a_certificate_binds_its_token(
    identity: JwtIdentity, key_file: Path, tmp_path: Path
) -> None:
    authority = make_authority("Test authority", ["localhost"], CLOCK.now_ms())
    client = make_client(authority, "ems", CLOCK.now_ms())
    certificate = tmp_path / "client.pem"
    certificate.write_bytes(client.certificate_pem)
    bound = context(development=development(key_file), certificate=certificate)
    token = token_for_context(bound, AUDIENCE, CLOCK)
    assert token is not None
    der = client.certificate.public_bytes(Encoding.DER)
    assert (await identity.authenticate(token, der)).certificate_thumbprint == certificate_thumbprint(der)
    with pytest.raises(EntenteError) as caught:
        await identity.authenticate(token, None)
    assert caught.value.reason is Reason.TOKEN_BINDING
    certificate.write_text("no certificate")
    with pytest.raises(ConfigError, match="holds no PEM certificate"):
        token_for_context(bound, AUDIENCE, CLOCK)


def test_a_thumbprint_is_the_digest_in_base64url() -> None:
    # SHA-256 of nothing, in base64url without padding.
    assert certificate_thumbprint(b"") == "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"


def test_a_context_without_a_source_of_tokens_has_none() -> None:
    assert token_for_context(context(), AUDIENCE, CLOCK) is None


def test_a_token_file_is_read_without_its_white_space(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("\n a.b.c \n")
    assert token_for_context(context(token_file=path), None, CLOCK) == "a.b.c"


@pytest.mark.parametrize("content", [b"", b" \n", b"a.b.c d.e.f", b"\xff", b"a" * 20_000])
def test_a_file_without_one_token_is_refused_unquoted(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "token"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_token_file(path)
    assert str(caught.value) == f"{path}: holds no token; write one JWT into it, and nothing else"


def test_an_absent_token_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="token: cannot be read"):
        read_token_file(tmp_path / "token")


def test_the_public_file_holds_no_private_part_and_neither_does_a_printed_key() -> None:
    private = json.loads(KEY.private_file())["key"]["d"]
    assert private not in KEY.jwks_file().decode()
    assert private not in repr(KEY)
    assert "d" not in json.loads(KEY.jwks_file())["keys"][0]


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"agency": 1}', b"\xff", b"[" * 10_000])
def test_a_damaged_issuer_key_is_refused(key_file: Path, content: bytes) -> None:
    key_file.write_bytes(content)
    with pytest.raises(ConfigError, match="no development issuer key"):
        read_issuer_key(key_file)


@pytest.mark.parametrize(("member", "value"), [("d", "AAAA"), ("d", 7), ("crv", "P-256"), ("kid", 7)])
def test_an_issuer_key_with_a_wrong_member_is_refused(key_file: Path, member: str, value: object) -> None:
    document = json.loads(KEY.private_file())
    document["key"][member] = value
    key_file.write_text(json.dumps(document))
    with pytest.raises(ConfigError) as caught:
        read_issuer_key(key_file)
    assert json.loads(KEY.private_file())["key"]["d"] not in str(caught.value)


def test_an_issuer_key_that_others_may_read_is_refused(key_file: Path) -> None:
    key_file.chmod(0o644)
    with pytest.raises(ConfigError, match="other users"):
        read_issuer_key(key_file)
