"""The table `kafka` of a connector: which cluster, and as whom."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from connectors.kafka.connection import Cluster, SaslMechanism
from connectors.kafka.oauth import ClientCredentials, TokenEndpoint, token_in
from connectors.runtime.settings import Address, FilePath, Secret, Settings


def _https(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname or parts.username or parts.password:
        raise ValueError("write it as https://…, without a name or password in it: the secret travels there")
    return url


class OAuthSettings(Settings):
    """Where tokens for OAUTHBEARER come from: a file, read for each connection, or a token endpoint (RFC 6749 §4.4)."""

    token_file: FilePath | None = Field(
        default=None, description="The token, read for each connection; not readable by every user."
    )
    token_endpoint: Annotated[str, AfterValidator(_https)] | None = Field(
        default=None, description="Or where tokens are given for client credentials, `https://…`."
    )
    client_id: str | None = Field(default=None, description="Of the client credentials.")
    client_secret: Secret | None = Field(default=None, description="Of the client credentials.")
    scope: str | None = Field(default=None, description="What the token is to be good for.")
    ca_file: FilePath | None = Field(
        default=None, description="PEM file of the endpoint's CA; without it the system's authorities."
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.token_file is None) == (self.token_endpoint is None):
            raise ValueError("set either token_file or token_endpoint")
        named = (self.client_id, self.client_secret)
        if self.token_endpoint is not None and None in named:
            raise ValueError("token_endpoint needs client_id and client_secret")
        if self.token_endpoint is None and any(
            each is not None for each in (*named, self.scope, self.ca_file)
        ):
            raise ValueError(
                "client_id, client_secret, scope and ca_file belong to token_endpoint; remove them"
            )
        return self

    def provider(self) -> Callable[[], str]:
        """What gives a token for each connection; to be called from a client's thread."""
        if self.token_file is not None:
            return token_in(self.token_file)
        if self.token_endpoint is None or self.client_id is None or self.client_secret is None:
            raise AssertionError("excluded by the validator")
        return ClientCredentials(
            TokenEndpoint(
                url=self.token_endpoint,
                client_id=self.client_id,
                client_secret=self.client_secret.read,
                scope=self.scope,
                ca_file=_text(self.ca_file),
            )
        )


class KafkaSettings(Settings):
    """Addresses, TLS and SASL of one cluster."""

    bootstrap: list[Address] = Field(min_length=1, description="Addresses to begin with, host:port.")
    tls: bool = Field(
        default=False, description="TLS with the system's authorities; ca_file alone does as well."
    )
    ca_file: FilePath | None = Field(default=None, description="The cluster's authority, PEM.")
    certificate: FilePath | None = Field(default=None, description="The client's own chain, PEM.")
    key: FilePath | None = Field(default=None, description="The key of `certificate`, PEM.")
    key_password: Secret | None = Field(default=None, description="What `key` is encrypted with.")
    sasl_mechanism: SaslMechanism | None = Field(
        default=None, description="How the cluster knows the client."
    )
    sasl_user: str | None = Field(default=None, description="For PLAIN and SCRAM.")
    sasl_password: Secret | None = Field(default=None, description="For PLAIN and SCRAM.")
    oauth: OAuthSettings | None = Field(default=None, description="For OAUTHBEARER.")
    insecure_plaintext: bool = Field(
        default=False,
        description="Without TLS: whoever sees the network reads along. For tests on one machine.",
    )

    @property
    def encrypted(self) -> bool:
        """Whether connections use TLS."""
        return self.tls or self.ca_file is not None

    @model_validator(mode="after")
    def _encryption(self) -> Self:
        if not self.encrypted and not self.insecure_plaintext:
            raise ValueError(
                "sends records in the clear; set ca_file or tls = true, or insecure_plaintext = true"
            )
        if self.encrypted and self.insecure_plaintext:
            raise ValueError("insecure_plaintext contradicts ca_file and tls; remove one of them")
        if not self.encrypted and (self.certificate, self.key) != (None, None):
            raise ValueError("certificate and key need TLS; set ca_file or tls = true")
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together; give both or neither")
        if self.key is None and self.key_password is not None:
            raise ValueError("key_password belongs to key; remove it")
        return self

    @model_validator(mode="after")
    def _authentication(self) -> Self:
        password = (self.sasl_user, self.sasl_password)
        bearer = self.sasl_mechanism == "OAUTHBEARER"
        if bearer != (self.oauth is not None):
            raise ValueError('oauth and sasl_mechanism = "OAUTHBEARER" belong together')
        if bearer and not self.encrypted:
            raise ValueError("OAUTHBEARER needs TLS (RFC 7628 §5); set ca_file or tls = true")
        wanted = self.sasl_mechanism is not None and not bearer
        if wanted and None in password:
            raise ValueError(f"sasl_mechanism {self.sasl_mechanism} needs sasl_user and sasl_password")
        if not wanted and password != (None, None):
            raise ValueError("sasl_user and sasl_password need sasl_mechanism PLAIN or SCRAM; remove them")
        return self

    def cluster(self) -> Cluster:
        """How to reach it, with the secrets as they are now. Raises ConfigurationRefused."""
        # Without a password OpenSSL would ask for one on the terminal, so an empty one stands for none.
        key_password = "" if self.key_password is None else self.key_password.read()
        return Cluster(
            bootstrap=tuple(self.bootstrap),
            tls=self.tls,
            ca_file=_text(self.ca_file),
            certificate_file=_text(self.certificate),
            key_file=_text(self.key),
            key_password=key_password if self.key is not None else None,
            sasl_mechanism=self.sasl_mechanism,
            sasl_user=self.sasl_user,
            sasl_password=None if self.sasl_password is None else self.sasl_password.read(),
            sasl_token=None if self.oauth is None else self.oauth.provider(),
        )


def _text(path: object) -> str | None:
    return None if path is None else str(path)
