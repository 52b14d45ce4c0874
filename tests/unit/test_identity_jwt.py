"""Tokens: what is accepted, and every refusal."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import warnings
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.adapters.jwt.binding import certificate_thumbprint
from broker.adapters.jwt.identity import TOKEN_LIMIT_BYTES, JwtIdentity
from broker.adapters.jwt.issuers import JwksSettings, check_url
from broker.adapters.jwt.keys import JwksRefused
from broker.errors import EntenteError, Reason, RulebookRefused
from broker.model.registry import Issuer
from tests.fakes.clock import TurnedClock
from tests.fakes.issuers import (
    AUDIENCE,
    EMS,
    EMS_EC_KEY,
    EMS_KEY,
    POLICE,
    POLICE_KEY,
    PrivateKey,
    agency,
    claims,
    files,
    jwks,
    public_jwk,
    registry,
    rsa_key,
    segment,
    sign,
)

CERTIFICATE = b"the DER of a client certificate"


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


@pytest.fixture
def identity(clock: TurnedClock) -> JwtIdentity:
    return JwtIdentity(registry(), files(), audience=AUDIENCE, clock=clock)


async def refusal(identity: JwtIdentity, token: str, certificate: bytes | None = None) -> EntenteError:
    with pytest.raises(EntenteError) as caught:
        await identity.authenticate(token, certificate)
    return caught.value


async def test_a_good_token_gives_the_principal_of_the_issuers_agency(
    identity: JwtIdentity, clock: TurnedClock
) -> None:
    token = sign(
        claims(
            clock.now_ms(),
            roles=["volunteer", "medic", "medic"],
            purposes=["statistics", "care"],
            aud=["other", AUDIENCE],
            attributes={"region": "north", "clearance": "amber"},
            agency="police",
        )
    )
    principal = await identity.authenticate(token, None)
    assert (principal.agency, principal.subject, principal.token_id) == ("ems", "medic-7", "token-1")
    assert principal.roles == ("medic", "volunteer")
    assert principal.purposes == ("care", "statistics")
    assert principal.attributes == {"clearance": "amber", "region": "north"}
    assert principal.expires_at == datetime.fromtimestamp(clock.now_ms() // 1000 + 600, UTC)
    assert principal.certificate_thumbprint is None


@pytest.mark.parametrize("absent", ["nbf", "roles", "purposes", "attributes"])
async def test_optional_claims_may_be_absent(identity: JwtIdentity, clock: TurnedClock, absent: str) -> None:
    principal = await identity.authenticate(sign(claims(clock.now_ms(), **{absent: ...})), None)
    assert not getattr(principal, absent, ())


@pytest.mark.parametrize(
    ("key", "algorithm", "key_id"),
    [
        (EMS_KEY, "EdDSA", "ed"),
        (EMS_EC_KEY, "ES256", "ec"),
        (rsa_key(2048), "RS256", "rsa"),
        (rsa_key(2048), "PS256", "rsa"),
        (rsa_key(2048), "PS256", "rsa-ps-only"),
    ],
)
async def test_each_algorithm_is_accepted_with_its_key(
    identity: JwtIdentity, clock: TurnedClock, key: PrivateKey, algorithm: str, key_id: str
) -> None:
    principal = await identity.authenticate(sign(claims(clock.now_ms()), key, algorithm, kid=key_id), None)
    assert principal.agency == "ems"


@pytest.mark.parametrize(
    ("key", "algorithm", "header"),
    [
        (EMS_KEY, "EdDSA", {"kid": "unknown"}),
        (EMS_KEY, "EdDSA", {"kid": "police-1"}),
        (POLICE_KEY, "EdDSA", {"kid": "ed"}),
        (POLICE_KEY, "EdDSA", {"kid": "police-1"}),
        (EMS_KEY, "EdDSA", {"kid": "ec"}),
        (EMS_EC_KEY, "ES256", {"kid": "ed"}),
        (EMS_KEY, "EdDSA", {"kid": "for-encryption"}),
        (rsa_key(2048), "RS256", {"kid": "rsa-ps-only"}),
        (rsa_key(1024), "RS256", {"kid": "rsa-1024"}),
        (Ed25519PrivateKey.generate(), "EdDSA", {"kid": "ed"}),
    ],
)
async def test_a_key_that_is_not_the_issuers_for_that_id_and_algorithm_is_refused(
    identity: JwtIdentity, clock: TurnedClock, key: PrivateKey, algorithm: str, header: dict[str, str]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyJWT warns of signing with RSA 1024
        token = sign(claims(clock.now_ms()), key, algorithm, **header)
    assert str(await refusal(identity, token)) == not_verified()


def not_verified() -> str:
    return Reason.TOKEN_INVALID.text("it is not signed by a registered issuer's key")


async def test_unknown_issuer_unknown_key_and_wrong_signature_look_the_same(
    identity: JwtIdentity, clock: TurnedClock
) -> None:
    good = sign(claims(clock.now_ms()))
    other_signature = sign(claims(clock.now_ms(), sub="other")).rpartition(".")[2]
    for token in (
        sign(claims(clock.now_ms(), iss="https://nobody.example")),
        sign(claims(clock.now_ms()), kid="unknown"),
        f"{good.rpartition('.')[0]}.{other_signature}",
        f"{good.rpartition('.')[0]}.AAAA",
        sign(claims(clock.now_ms(), iss=POLICE)),
    ):
        error = await refusal(identity, token)
        assert (error.reason, str(error)) == (Reason.TOKEN_INVALID, not_verified())


def unsigned(header: dict[str, object], content: dict[str, object]) -> str:
    return f"{segment(json.dumps(header).encode())}.{segment(json.dumps(content).encode())}"


@pytest.mark.parametrize(
    "algorithm", ["none", "None", "HS256", "HS512", "ES384", "ES256K", "RS512", "", 7, None]
)
async def test_other_algorithms_are_refused_whatever_the_signature(
    identity: JwtIdentity, clock: TurnedClock, algorithm: object
) -> None:
    signing_input = unsigned({"alg": algorithm, "kid": "ed"}, claims(clock.now_ms()))
    secret = EMS_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    mac = segment(hmac.new(secret, signing_input.encode(), hashlib.sha256).digest())
    error = await refusal(identity, f"{signing_input}.{mac}")
    assert error.reason is Reason.TOKEN_INVALID
    assert "algorithm" in str(error)
    assert (await refusal(identity, f"{signing_input}.")).reason is Reason.TOKEN_INVALID


@pytest.mark.parametrize("key_id", ["rsa", "oct", "ed"])
async def test_a_public_key_is_never_a_shared_secret(
    identity: JwtIdentity, clock: TurnedClock, key_id: str
) -> None:
    signing_input = unsigned({"alg": "HS256", "kid": key_id, "typ": "JWT"}, claims(clock.now_ms()))
    public = rsa_key(2048).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for secret in (public, base64.b64decode("c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0")):
        mac = segment(hmac.new(secret, signing_input.encode(), hashlib.sha256).digest())
        assert (await refusal(identity, f"{signing_input}.{mac}")).reason is Reason.TOKEN_INVALID


@pytest.mark.parametrize(
    "header",
    [
        {"crit": ["exp"], "exp": 1},
        {"crit": ["b64"], "b64": True},
        {"crit": []},
        {"jku": "https://ems.example/keys"},
        {"x5u": "https://ems.example/chain"},
        {"jwk": public_jwk(EMS_KEY, "ed")},
        {"x5c": ["MIIB"]},
        {"zip": "DEF"},
        {"cty": "JWT"},
        {"enc": "A256GCM"},
        {"typ": "secevent+jwt"},
        {"typ": 7},
        {"kid": ...},
        {"kid": 7},
    ],
)
async def test_headers_that_bring_keys_or_change_the_reading_are_refused(
    identity: JwtIdentity, clock: TurnedClock, header: dict[str, object]
) -> None:
    members = {"alg": "EdDSA", "kid": "ed", "typ": "JWT", **header}
    signing_input = unsigned({k: v for k, v in members.items() if v is not ...}, claims(clock.now_ms()))
    token = f"{signing_input}.{segment(EMS_KEY.sign(signing_input.encode()))}"
    assert (await refusal(identity, token)).reason is Reason.TOKEN_INVALID


@pytest.mark.parametrize("kind", ["JWT", "jwt", "at+jwt", "application/at+jwt"])
async def test_types_of_access_tokens_are_accepted(
    identity: JwtIdentity, clock: TurnedClock, kind: str
) -> None:
    assert (await identity.authenticate(sign(claims(clock.now_ms()), typ=kind), None)).agency == "ems"


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "a.b",
        "a.b.c.d",
        "…",
        "\ud800",
        "a b.c.d",
        "YQ==.YQ==.YQ==",
        "a\n.b.c",
        "e30.e30.e30",
        "WzFd.WzFd.YQ",
    ],
)
async def test_what_is_no_jwt_is_refused(identity: JwtIdentity, token: str) -> None:
    assert (await refusal(identity, token)).reason is Reason.TOKEN_INVALID


async def test_a_stripped_signature_is_refused(identity: JwtIdentity, clock: TurnedClock) -> None:
    good = sign(claims(clock.now_ms()))
    for token in (good.rpartition(".")[0], good.rpartition(".")[0] + "."):
        assert (await refusal(identity, token)).reason is Reason.TOKEN_INVALID


async def test_an_oversized_token_is_refused_unread(identity: JwtIdentity, clock: TurnedClock) -> None:
    error = await refusal(identity, sign(claims(clock.now_ms(), padding="x" * TOKEN_LIMIT_BYTES)))
    assert str(TOKEN_LIMIT_BYTES) in str(error)


async def test_repeated_members_are_refused(identity: JwtIdentity, clock: TurnedClock) -> None:
    content = json.dumps(claims(clock.now_ms()))[:-1] + ', "sub": "admin"}'
    header = segment(b'{"alg": "EdDSA", "kid": "ed"}')
    signing_input = f"{header}.{segment(content.encode())}"
    token = f"{signing_input}.{segment(EMS_KEY.sign(signing_input.encode()))}"
    assert (await refusal(identity, token)).reason is Reason.TOKEN_INVALID


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"iat": -700, "nbf": -700, "exp": -31}, Reason.TOKEN_EXPIRED),
        ({"iat": -700, "nbf": -700, "exp": -30}, Reason.TOKEN_EXPIRED),
        ({"nbf": 31}, Reason.TOKEN_NOT_YET_VALID),
        ({"iat": 31, "nbf": ...}, Reason.TOKEN_NOT_YET_VALID),
        ({"exp": 3601}, Reason.CLAIM_NOT_PERMITTED),
        ({"exp": 0}, Reason.TOKEN_INVALID),
        ({"nbf": 600}, Reason.TOKEN_INVALID),
    ],
)
async def test_times_are_checked_with_leeway(
    identity: JwtIdentity, clock: TurnedClock, changes: dict[str, object], reason: Reason
) -> None:
    now_s = clock.now_ms() // 1000
    moved = {name: now_s + value if isinstance(value, int) else value for name, value in changes.items()}
    assert (await refusal(identity, sign(claims(clock.now_ms(), **moved)))).reason is reason


async def test_leeway_is_granted_on_both_sides(identity: JwtIdentity, clock: TurnedClock) -> None:
    now_s = clock.now_ms() // 1000
    late = claims(clock.now_ms(), iat=now_s - 100, nbf=now_s - 100, exp=now_s - 29)
    early = claims(clock.now_ms(), iat=now_s + 30, nbf=now_s + 30)
    for content in (late, early):
        assert (await identity.authenticate(sign(content), None)).agency == "ems"


@pytest.mark.parametrize(
    "changes",
    [{name: value} for name in ("iat", "nbf", "exp") for value in (True, "1800000000", 1.8e9, None, -1, 10**15, [])]
    + [{name: value} for name in ("sub", "jti") for value in (..., "", 7, True, None, "x" * 257, "a\nb", "\ud800", [])]
    + [{name: ...} for name in ("iss", "aud", "iat", "exp")]
    + [{"aud": value} for value in ("other", [], ["other"], 7, None, [AUDIENCE, 7], AUDIENCE.upper(), {AUDIENCE: 1})]
    + [{name: value} for name in ("roles", "purposes") for value in ("medic", 7, None, [7], [True], [["medic"]], {})]
    + [{"roles": ["medic"] * 65}]
    + [{"attributes": value} for value in ([], "clearance", None, {"clearance": 3}, {"clearance": True})]
    + [{"attributes": {"clearance": ["green"]}}, {"iss": 7}, {"iss": ["x"]}],
)  # fmt: skip
async def test_wrong_types_and_sizes_are_refused(
    identity: JwtIdentity, clock: TurnedClock, changes: dict[str, object]
) -> None:
    content = claims(clock.now_ms(), **changes)
    signing_input = unsigned({"alg": "EdDSA", "kid": "ed"}, content)
    token = f"{signing_input}.{segment(EMS_KEY.sign(signing_input.encode()))}"
    assert (await refusal(identity, token)).reason is Reason.TOKEN_INVALID


@pytest.mark.parametrize(
    "changes",
    [
        {"roles": ["medic", "officer"]},
        {"roles": ["Medic"]},
        {"purposes": ["law"]},
        {"attributes": {"clearance": "red"}},
        {"attributes": {"clearance": "amber+strict"}},
        {"attributes": {"clearance": "unheard-of"}},
        {"attributes": {"region": "south"}},
        {"attributes": {"unused": "x"}},
        {"attributes": {"unregistered-word": "x"}},
    ],
)
async def test_claims_beyond_the_registration_are_refused(
    identity: JwtIdentity, clock: TurnedClock, changes: dict[str, object]
) -> None:
    assert (
        await refusal(identity, sign(claims(clock.now_ms(), **changes)))
    ).reason is Reason.CLAIM_NOT_PERMITTED


@pytest.mark.parametrize("clearance", ["clear", "green", "amber"])
async def test_a_clearance_up_to_the_ceiling_is_accepted(
    identity: JwtIdentity, clock: TurnedClock, clearance: str
) -> None:
    token = sign(claims(clock.now_ms(), attributes={"clearance": clearance}))
    assert (await identity.authenticate(token, None)).attributes == {"clearance": clearance}


async def test_a_bound_token_needs_its_certificate(identity: JwtIdentity, clock: TurnedClock) -> None:
    thumbprint = certificate_thumbprint(CERTIFICATE)
    token = sign(claims(clock.now_ms(), cnf={"x5t#S256": thumbprint}))
    assert (await refusal(identity, token)).reason is Reason.TOKEN_BINDING
    assert (await refusal(identity, token, b"another certificate")).reason is Reason.TOKEN_BINDING
    principal = await identity.authenticate(token, CERTIFICATE)
    assert principal.certificate_thumbprint == thumbprint
    # The remembered acceptance is for that certificate alone.
    assert (await refusal(identity, token)).reason is Reason.TOKEN_BINDING
    assert (await refusal(identity, token, b"another certificate")).reason is Reason.TOKEN_BINDING


async def test_an_unbound_token_is_accepted_beside_a_certificate(
    identity: JwtIdentity, clock: TurnedClock
) -> None:
    principal = await identity.authenticate(sign(claims(clock.now_ms())), CERTIFICATE)
    assert principal.certificate_thumbprint is None


@pytest.mark.parametrize(
    "confirmation",
    [
        {},
        None,
        "x",
        {"jkt": "x"},
        {"x5t#S256": 7},
        {"x5t#S256": ""},
        {"x5t#S256": "é"},
        {"x5t#S256": "x", "jwk": {}},
    ],
)
async def test_other_confirmations_are_refused(
    identity: JwtIdentity, clock: TurnedClock, confirmation: object
) -> None:
    error = await refusal(identity, sign(claims(clock.now_ms(), cnf=confirmation)), CERTIFICATE)
    assert error.reason in (Reason.TOKEN_INVALID, Reason.TOKEN_BINDING)


async def test_a_remembered_token_still_expires(identity: JwtIdentity, clock: TurnedClock) -> None:
    token = sign(claims(clock.now_ms()))
    first = await identity.authenticate(token, None)
    clock.advance(629.9)
    assert await identity.authenticate(token, None) is first
    clock.advance(0.1)
    assert (await refusal(identity, token)).reason is Reason.TOKEN_EXPIRED


async def test_the_memory_of_verified_tokens_is_bounded(clock: TurnedClock) -> None:
    identity = JwtIdentity(registry(), files(), audience=AUDIENCE, clock=clock, cache_entries=2)
    tokens = [sign(claims(clock.now_ms(), jti=f"token-{number}")) for number in range(3)]
    first, second, _ = [await identity.authenticate(token, None) for token in tokens]
    assert len(identity._cache) == 2
    assert await identity.authenticate(tokens[1], None) is second
    assert await identity.authenticate(tokens[0], None) == first
    assert len(identity._cache) == 2


async def test_errors_never_hold_a_part_of_the_token(identity: JwtIdentity, clock: TurnedClock) -> None:
    token = sign(claims(clock.now_ms(), sub="secret-subject", iss="https://secret.example"), kid="secret-key")
    text = str(await refusal(identity, token))
    assert "secret" not in text
    assert not any(part in text for part in token.split("."))


@settings(max_examples=150, deadline=None)
@given(data=st.data())
async def test_no_mutation_of_a_valid_token_authenticates(data: st.DataObject) -> None:
    clock = TurnedClock()
    identity = JwtIdentity(registry(), files(), audience=AUDIENCE, clock=clock)
    key, algorithm, key_id = data.draw(
        st.sampled_from(
            [(EMS_KEY, "EdDSA", "ed"), (EMS_EC_KEY, "ES256", "ec"), (rsa_key(2048), "PS256", "rsa")]
        )
    )
    token = sign(claims(clock.now_ms()), key, algorithm, kid=key_id)
    mutated = list(token)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(mutated) - 1))
        kind = data.draw(st.sampled_from(["replace", "insert", "delete", "swap"]))
        character = data.draw(st.sampled_from("AZaz09-_=. \n\0é\ud800") | st.characters())
        if kind == "replace":
            mutated[place] = character
        elif kind == "insert":
            mutated.insert(place, character)
        elif kind == "delete":
            del mutated[place]
        else:
            mutated[place], mutated[-1] = mutated[-1], mutated[place]
    changed = "".join(mutated)
    if changed != token:
        with pytest.raises(EntenteError):
            await identity.authenticate(changed, None)
    assert (await identity.authenticate(token, None)).agency == "ems"


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=6,
)
_NAMES = ["iss", "sub", "aud", "exp", "iat", "nbf", "jti", "roles", "purposes", "attributes", "cnf"]


@settings(max_examples=150, deadline=None)
@given(changes=st.dictionaries(st.sampled_from(_NAMES), _JSON, min_size=1, max_size=3))
async def test_arbitrary_signed_claims_never_raise_anything_else_and_never_gain(
    changes: dict[str, object],
) -> None:
    clock = TurnedClock()
    identity = JwtIdentity(registry(), files(), audience=AUDIENCE, clock=clock)
    signing_input = unsigned({"alg": "EdDSA", "kid": "ed"}, claims(clock.now_ms(), **changes))
    token = f"{signing_input}.{segment(EMS_KEY.sign(signing_input.encode()))}"
    try:
        principal = await identity.authenticate(token, CERTIFICATE)
    except EntenteError:
        return
    assert principal.agency == "ems"
    assert set(principal.roles) <= {"medic", "volunteer"}
    assert set(principal.purposes) <= {"care", "statistics"}
    assert principal.attributes.get("clearance", "clear") in ("clear", "green", "amber")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "is not in the rulebook"),
        (b"", "JSON"),
        (b"[]", "JSON"),
        (b'{"keys": {}}', "list"),
        (b'{"keys": []}', "no key"),
        (b'{"keys": [], "keys": []}', "JSON"),
        (jwks(public_jwk(rsa_key(1024), "weak")), "no key"),
        (jwks(public_jwk(EMS_KEY, "a"), public_jwk(EMS_KEY, "a")), "one 'kid'"),
        (jwks(public_jwk(EMS_KEY, "a", d="AAAA")), "private"),
        (jwks(public_jwk(EMS_KEY, "a", alg="HS256")), "no key"),
        (jwks(public_jwk(EMS_KEY, "a", key_ops=["sign"])), "no key"),
        (jwks(public_jwk(EMS_KEY, "")), "no key"),
        (jwks({**public_jwk(EMS_EC_KEY, "a"), "x": "AAAA"}), "no key"),
        (jwks(public_jwk(ec.generate_private_key(ec.SECP384R1()), "a")), "no key"),
        (jwks(*(public_jwk(EMS_KEY, str(number)) for number in range(65))), "at most 64"),
        (b'{"keys": [' + b" " * 262_144 + b"]}", "larger"),
    ],
)
def test_a_rulebook_with_an_unusable_key_file_is_refused(content: bytes | None, says: str) -> None:
    held = {} if content is None else {"keys/a.json": content}
    registered = registry(agency("ems", Issuer(EMS, jwks_file="keys/a.json")))
    with pytest.raises(RulebookRefused, match=says) as caught:
        JwtIdentity(registered, held, audience=AUDIENCE, clock=TurnedClock())
    assert "keys/a.json" in caught.value.findings[0]


@pytest.mark.parametrize("host", ["127.0.0.1:80", "[::1]:80", "localhost"])
def test_http_on_loopback_is_accepted_only_where_the_settings_say_so(host: str) -> None:
    insecure = JwksSettings(insecure_http_loopback=True)
    check_url(f"http://{host}/keys", insecure)
    with pytest.raises(JwksRefused):
        check_url(f"http://{host}/keys", JwksSettings())
    with pytest.raises(JwksRefused):
        check_url("http://ems.example/keys", insecure)


async def test_numbers_that_json_does_not_know_are_refused(identity: JwtIdentity, clock: TurnedClock) -> None:
    for value in (float("nan"), float("inf")):
        token = sign(claims(clock.now_ms(), note=value))
        assert (await refusal(identity, token)).reason is Reason.TOKEN_INVALID


async def test_an_expired_token_is_told_so_only_if_it_is_its_issuers(
    identity: JwtIdentity, clock: TurnedClock
) -> None:
    old = claims(clock.now_ms() - 3_600_000)
    assert (await refusal(identity, sign(old))).reason is Reason.TOKEN_EXPIRED
    assert (await refusal(identity, sign(old, POLICE_KEY))).reason is Reason.TOKEN_INVALID
    assert len(identity._cache) == 0


def test_an_issuer_of_two_agencies_is_refused() -> None:
    one = Issuer(EMS, jwks_file="keys/ems.json")
    with pytest.raises(RulebookRefused, match="registered twice"):
        JwtIdentity(
            registry(agency("ems", one), agency("police", one)),
            files(),
            audience=AUDIENCE,
            clock=TurnedClock(),
        )


@pytest.mark.parametrize(
    "issuer",
    [
        Issuer(EMS),
        Issuer(EMS, jwks_file="keys/ems.json", jwks_url="https://ems.example/keys"),
        *(
            Issuer(EMS, jwks_url=url)
            for url in (
                "http://ems.example/keys",
                "http://127.0.0.1/keys",
                "ftp://ems.example/keys",
                "file:///etc/passwd",
                "https://",
                "https://user:password@ems.example/keys",
                "https://ems.example:x/keys",
                "https://ems.example/keys#fragment",
            )
        ),
    ],
)
def test_an_issuer_with_an_unusable_source_of_keys_is_refused(issuer: Issuer) -> None:
    with pytest.raises(RulebookRefused):
        JwtIdentity(registry(agency("ems", issuer)), files(), audience=AUDIENCE, clock=TurnedClock())
