"""What a Kafka source and its cluster are configured with: nothing in the clear unsaid, no loop through dead letters."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from connectors.kafka.settings import KafkaSettings
from connectors.kafka.source_settings import KafkaSourceSettings, ReadSettings

BOOTSTRAP = ["kafka.example:9093"]
PASSWORD = {"sasl_user": "u", "sasl_password": {"env": "KAFKA_PASSWORD"}}
ENDPOINT = {
    "token_endpoint": "https://id.example/token",
    "client_id": "c",
    "client_secret": {"env": "KAFKA_SECRET"},
}
BEARER = {"sasl_mechanism": "OAUTHBEARER"}


def cluster_of(**table: Any) -> KafkaSettings:
    return KafkaSettings.model_validate({"bootstrap": BOOTSTRAP, **table})


@pytest.mark.parametrize(
    ("table", "why"),
    [
        ({}, "sends records in the clear"),
        ({"tls": True, "insecure_plaintext": True}, "contradicts"),
        ({"insecure_plaintext": True, "certificate": "c", "key": "k"}, "need TLS"),
        ({"tls": True, "certificate": "c"}, "belong together"),
        ({"tls": True, "key_password": {"env": "P"}}, "belongs to key"),
        ({"tls": True, "sasl_mechanism": "PLAIN"}, "needs sasl_user and sasl_password"),
        ({"tls": True, **PASSWORD}, "need sasl_mechanism"),
        ({"tls": True, "sasl_mechanism": "GSSAPI", **PASSWORD}, "PLAIN"),
        ({"tls": True, **BEARER}, "belong together"),
        ({"tls": True, "oauth": ENDPOINT}, "belong together"),
        ({"tls": True, **BEARER, **PASSWORD, "oauth": ENDPOINT}, "remove them"),
        ({"insecure_plaintext": True, **BEARER, "oauth": ENDPOINT}, "needs TLS"),
        ({"tls": True, **BEARER, "oauth": {}}, "either token_file or token_endpoint"),
        ({"tls": True, **BEARER, "oauth": {**ENDPOINT, "token_file": "t"}}, "either token_file"),
        ({"tls": True, **BEARER, "oauth": {"token_file": "t", "scope": "s"}}, "belong to token_endpoint"),
        (
            {"tls": True, **BEARER, "oauth": {"token_endpoint": "https://id.example"}},
            "needs client_id and client_secret",
        ),
        ({"tls": True, **BEARER, "oauth": {**ENDPOINT, "token_endpoint": "http://id.example"}}, "https"),
        (
            {"tls": True, **BEARER, "oauth": {**ENDPOINT, "token_endpoint": "https://u:p@id.example"}},
            "without a name or password",
        ),
    ],
)
def test_a_cluster_that_is_reached_unsafely_or_in_half_is_refused(table: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        cluster_of(**table)


def test_a_cluster_gets_what_was_configured_with_the_secrets_of_now(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = cluster_of(ca_file="ca.pem", sasl_mechanism="SCRAM-SHA-512", **PASSWORD)
    for password in ("first", "second"):
        monkeypatch.setenv("KAFKA_PASSWORD", password)
        cluster = settings.cluster()
        assert cluster.sasl_password == password
        assert cluster.encrypted
        assert password not in repr(cluster)


def test_an_encrypted_key_without_its_password_asks_nobody_for_it() -> None:
    assert cluster_of(tls=True, certificate="c", key="k").cluster().key_password == ""
    assert cluster_of(tls=True).cluster().key_password is None


@pytest.mark.parametrize(
    ("table", "why"),
    [
        ({}, "set either topics or pattern"),
        ({"topics": ["a"], "pattern": "b"}, "set either topics or pattern"),
        ({"topics": ["a", "dead"], "dead_letter_topic": "dead"}, "again and again"),
        ({"topics": ["a b"]}, "no name of a Kafka topic"),
        ({"topics": [".."]}, "no name of a Kafka topic"),
        ({"pattern": "("}, "no regular expression"),
        ({"topics": ["a"], "session_timeout_s": 1}, "greater than or equal to 6"),
    ],
)
def test_what_cannot_be_read_is_refused(table: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        ReadSettings.model_validate(table)


def test_a_pattern_means_whole_names_and_never_the_dead_letters() -> None:
    read = ReadSettings(pattern=r"crashes\..*|others", dead_letter_topic="crashes.dead")
    whole = read.whole_pattern()
    assert whole is not None
    names = ["crashes.north", "crashes.dead", "crashes.dead.north", "others", "others2", "my.crashes.x"]
    # As kafka-python does it.
    assert [each for each in names if re.compile(whole).match(each)] == [
        "crashes.north",
        "crashes.dead.north",
        "others",
    ]


def test_dead_letters_need_a_topic() -> None:
    table = {
        "plugin": "kafka-source",
        "exchange": {"endpoint": "127.0.0.1:1", "token_env": "TOKEN"},
        "topic": "crash-reports",
        "on_error": "dead-letter",
        "kafka": {"bootstrap": BOOTSTRAP, "tls": True},
        "read": {"topics": ["crashes"]},
        "map": {"labels": {"dataclassification": "green"}},
    }
    with pytest.raises(ValidationError, match=r"needs read\.dead_letter_topic"):
        KafkaSourceSettings.model_validate(table)
