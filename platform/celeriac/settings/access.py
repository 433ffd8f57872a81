"""Settings of who may do what: tokens, keys, limits for strangers, TLS."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, model_validator

from celeriac.settings.values import Duration, Section

#: What a token or key may be good for; `admin` includes the others.
ScopeName = Literal["submit", "read", "worker", "admin"]


def _secret_text(value: Any) -> Any:
    """Take a secret that YAML reads as a number for the text that it was written as; an empty one is none."""
    return (str(value) if isinstance(value, int | float) else value) or None


class ServerTlsSettings(Section):
    """TLS of our own servers, HTTP and gRPC: paths to PEM files, read at the start."""

    #: Certificate (with its chain) and private key.
    cert_file: Path
    key_file: Path
    #: Authorities whose client certificates are demanded from every client; None asks for none.
    client_ca_file: Path | None = None


class AccessSettings(Section):
    """Authentication, authorisation and limits of all front doors."""

    #: Whether callers must say who they are; None is: where `jwt_secret` or `jwks` is set.
    enabled: bool | None = None
    #: Secret of HS256 tokens (`JWT_SECRET`); at least 32 random bytes. None is one kept in the data folder.
    jwt_secret: Annotated[SecretStr | None, BeforeValidator(_secret_text)] = None
    #: URL or file of a JSON Web Key Set with the public keys of RS256, ES256, … tokens (`JWKS_URL`).
    jwks: str | None = None
    #: How long fetched keys are used before they are fetched again; an unknown key is looked for sooner.
    jwks_refresh: Duration = Field(300.0, ge=1)
    #: What `aud` and `iss` of a token must be; None does not look.
    audience: str | None = None
    issuer: str | None = None
    #: How far the clocks of issuers may be off.
    leeway: Duration = Field(0.0, le=300)
    #: Whether a token without `exp` is refused; otherwise it lives for `token_lifetime` from its `iat` on, if any.
    require_expiry: bool = False
    #: Also what `celeriac token` mints by default.
    token_lifetime: Duration = Field(24 * 3600.0, gt=0)
    #: Scopes of a token that has no claim `scope`. Its own notifications are anybody's without one.
    default_scopes: list[ScopeName] = Field(default_factory=list)
    #: How long a verified API key is believed without a look at the store: revocation takes that long.
    key_cache: Duration = Field(3.0, ge=0, le=60)
    #: Verified tokens and keys that one process remembers.
    cache_size: int = Field(10_000, ge=1)

    # --- browsers
    #: Names under which this server may be addressed, beside those of the loopback and `host`. Checked where
    #: there is no authentication, so that a web page cannot reach a local server by a name of its own.
    allowed_hosts: list[str] = Field(default_factory=list)
    #: Origins (`https://app.example.com`) whose pages may call the API from a browser. None by default.
    cors_origins: list[str] = Field(default_factory=list)

    # --- proxies
    #: Addresses and networks (`10.0.0.0/8`) of proxies: what they say in `X-Forwarded-For` and `X-Forwarded-Proto` is
    #: believed, for limits, logs and the audit. None by default: then all that a proxy forwards comes from it.
    trusted_proxies: list[str] = Field(default_factory=list)

    # --- limits
    #: Requests per second of one principal, with bursts of twice that, per process. 0 is no limit; None is no limit on
    #: the loopback without authentication, else 1000.
    rate_limit: float | None = Field(None, ge=0)
    #: The same per address, before anybody is known. None is no limit.
    rate_limit_per_address: float | None = Field(None, ge=0)
    #: Refused credentials per minute and address.
    failure_limit: int = Field(120, ge=1)
    #: Event streams and WebSockets that one principal may have open in one process.
    max_streams_per_principal: int = Field(5000, ge=1)
    #: How long a client may take for a request's head, and between two pieces of its body.
    header_timeout: Duration = Field(10.0, ge=0.1)
    body_timeout: Duration = Field(60.0, ge=0.1)

    # --- transport
    tls: ServerTlsSettings | None = None

    #: Entries that the audit keeps, at least; the oldest go first.
    audit_entries: int = Field(100_000, ge=1000)

    @property
    def on(self) -> bool:
        """Whether callers must say who they are."""
        return bool(self.jwt_secret or self.jwks) if self.enabled is None else self.enabled

    @model_validator(mode="after")
    def _readable_proxies(self) -> Self:
        for proxy in self.trusted_proxies:
            try:
                ip_network(proxy)
            except ValueError as exc:
                raise ValueError(
                    f"trusted_proxies: {proxy!r} is neither an address nor a network such as 10.0.0.0/8"
                ) from exc
        return self

    @model_validator(mode="after")
    def _exact_origins(self) -> Self:
        for origin in self.cors_origins:
            scheme, _, rest = origin.partition("://")
            if scheme not in ("http", "https") or not rest or "/" in rest or "*" in rest:
                raise ValueError(
                    f"cors_origins: {origin!r} is no origin: write https://app.example.com, without a path"
                )
        return self
