"""Settings of access: tokens, keys, rate limits and TLS."""

from __future__ import annotations

import re
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, model_validator

from celeriac.settings.values import OR_COMMAS, Duration, Names, Section

#: What a token or key may be used for; `admin` includes the others.
ScopeName = Literal["submit", "read", "worker", "admin"]


def _secret_text(value: Any) -> Any:
    """Return a secret that YAML read as a number as text, and an empty one as None."""
    return (str(value) if isinstance(value, int | float) else value) or None


class ServerTlsSettings(Section):
    """TLS of the servers that Celeriac runs, HTTP and gRPC. All are paths to PEM files, read at the start."""

    cert_file: Path = Field(description="The server's certificate, followed by the rest of its chain.")
    key_file: Path = Field(description="The private key that belongs to the server's certificate.")
    client_ca_file: Path | None = Field(
        None,
        description=(
            "Certificate authorities for client certificates. If set, every client must show a certificate that one "
            "of them signed. Not set: clients need no certificate."
        ),
    )


class AccessSettings(Section):
    """Authentication, authorisation and request limits of HTTP, gRPC and WebSockets."""

    enabled: bool | None = Field(
        None,
        description=(
            "Whether callers must authenticate. Not set: only if `access.jwt_secret` or `access.jwks` is set. With "
            "`true` and neither of them, tokens are signed with a secret that is kept in the data folder."
        ),
    )
    jwt_secret: Annotated[SecretStr | None, BeforeValidator(_secret_text)] = Field(
        None,
        description=(
            "Secret that signs and verifies HS256 tokens. Use at least 32 random characters: the server warns about a "
            "shorter one. Not set: the secret in the data folder is used, unless `access.jwks` is set."
        ),
    )
    jwks: str | None = Field(
        None,
        description=(
            "URL or path of the JSON Web Key Set of your token issuer. Its public keys verify RS256, ES256 and other "
            "asymmetric tokens."
        ),
    )
    jwks_refresh: Duration = Field(
        300.0,
        ge=1,
        description=(
            "How long the fetched key set is used before it is fetched again. A token that names an unknown key makes "
            "the server look sooner."
        ),
    )
    audience: str | None = Field(
        None, description="The audience (`aud`) that a token must name. Not set: the audience is not checked."
    )
    issuer: str | None = Field(
        None, description="The issuer (`iss`) that a token must name. Not set: the issuer is not checked."
    )
    leeway: Duration = Field(
        0.0,
        le=300,
        description=(
            "By how much an issuer's clock may differ from the server's when the times in a token are checked. Raise "
            "it if new tokens are refused as expired or as not yet valid."
        ),
    )
    require_expiry: bool = Field(
        False,
        description=(
            "Whether a token without `exp` is refused. If it is accepted, it expires `access.token_lifetime` after its "
            "`iat`, or never if it has no `iat` either."
        ),
    )
    token_lifetime: Duration = Field(
        24 * 3600.0,
        gt=0,
        description="How long a token is valid that `celeriac token` makes without `--ttl`, or that has no `exp`.",
    )
    default_scopes: Annotated[list[ScopeName], OR_COMMAS] = Field(
        default_factory=list,
        description=(
            "Scopes of a token that has no claim `scope`: any of `submit`, `read`, `worker`, `admin`. With none, such "
            "a token can follow its own user's notifications and do nothing else."
        ),
    )
    key_cache: Duration = Field(
        3.0,
        ge=0,
        le=60,
        description=(
            "How long a process trusts an API key after it looked the key up in the store. A revoked key may work for "
            "this long. Lower it to revoke faster; each look costs one round trip to the store."
        ),
    )
    cache_size: int = Field(
        10_000,
        ge=1,
        description=(
            "How many verified tokens and keys one process remembers. Beyond it, the oldest is forgotten and is "
            "verified again when it is next used."
        ),
    )

    # --- browsers
    allowed_hosts: Names = Field(
        default_factory=list,
        description=(
            "Further host names, such as `celeriac` or `api.internal`, that callers may use for a server without "
            "authentication; `localhost`, IP addresses and `host` always work. Other names are refused, so that a web "
            "page cannot reach the server through a name of its own. With authentication, every name works."
        ),
    )
    cors_origins: Names = Field(
        default_factory=list,
        description=(
            "Origins, such as `https://app.example.com`, whose pages may call the API from a browser. By default only "
            "the server's own pages may."
        ),
    )

    # --- proxies
    trusted_proxies: Names = Field(
        default_factory=list,
        description=(
            "Addresses and networks (`10.0.0.0/8`) of your reverse proxies. Their `X-Forwarded-For` and "
            "`X-Forwarded-Proto` headers decide which client address limits, logs and the audit see. By default these "
            "headers are ignored, and every request that comes through a proxy counts as the proxy's own."
        ),
    )

    # --- limits
    rate_limit: float | None = Field(
        None,
        ge=0,
        description=(
            "Requests per second that one user or key may make to one process, with bursts of twice as many; beyond "
            "it, requests are answered 429. 0 means no limit. Not set: 1000, but no limit on the loopback address "
            "without authentication."
        ),
    )
    rate_limit_per_address: float | None = Field(
        None,
        ge=0,
        description=(
            "Requests per second that one client address may make to one process, with bursts of twice as many. It is "
            "checked before authentication; beyond it, requests are answered 429. 0 or not set: no limit."
        ),
    )
    failure_limit: int = Field(
        120,
        ge=1,
        description=(
            "How many invalid credentials one client address may show per minute. Beyond it, credentials from there "
            "that were not verified lately are answered 429, valid or not."
        ),
    )
    max_streams_per_principal: int = Field(
        5000,
        ge=1,
        description=(
            "How many event streams and WebSockets one user or key may have open in one process. Further ones are "
            "answered 429."
        ),
    )
    header_timeout: Duration = Field(
        10.0,
        ge=0.1,
        description=(
            "How long a client may take to send the headers of a request. The server closes a slower connection."
        ),
    )
    body_timeout: Duration = Field(
        60.0,
        ge=0.1,
        description=(
            "How long a client may pause between two pieces of a request's body before the server closes the "
            "connection. Raise it for uploads over bad networks."
        ),
    )

    # --- transport
    tls: ServerTlsSettings | None = None

    audit_entries: int = Field(
        100_000,
        ge=1000,
        description="At least this many entries of the audit log are kept; older ones are deleted.",
    )

    @property
    def on(self) -> bool:
        """Whether callers must authenticate."""
        return bool(self.jwt_secret or self.jwks) if self.enabled is None else self.enabled

    @model_validator(mode="after")
    def _readable_proxies(self) -> Self:
        for proxy in self.trusted_proxies:
            try:
                ip_network(proxy)
            except ValueError as exc:
                raise ValueError(
                    f"trusted_proxies: {proxy!r} is neither an IP address nor a network: write 10.0.0.7 or 10.0.0.0/8"
                ) from exc
        return self

    @model_validator(mode="after")
    def _bare_hosts(self) -> Self:
        for host in self.allowed_hosts:
            if re.fullmatch(r"[A-Za-z0-9._-]{1,253}", host) is None:
                raise ValueError(
                    f"allowed_hosts: {host[:100]!r} is not a host name: write api.internal, without a scheme, a port or"
                    " a path"
                )
        return self

    @model_validator(mode="after")
    def _exact_origins(self) -> Self:
        for origin in self.cors_origins:
            scheme, _, rest = origin.partition("://")
            if scheme not in ("http", "https") or not rest or "/" in rest or "*" in rest:
                raise ValueError(
                    f"cors_origins: {origin!r} is not an origin: write https://app.example.com, without a path"
                )
        return self
