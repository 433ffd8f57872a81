"""Tokens: JSON Web Tokens (RFC 7519), minted with a secret, verified with it or with an issuer's public keys.

`sub` is the user's id, `scope` the scopes separated by spaces. The algorithm a token names only chooses among those
that its kind of key allows: a public key is never taken for a secret, and a token without signature for none at all.
"""

from __future__ import annotations

import secrets
import time
import warnings
from collections.abc import Collection, Mapping
from typing import Any, Final

import jwt

from celeriac.access.key_set import KeySet
from celeriac.access.principal import Kind, Principal, Scope, read_scopes
from celeriac.access.secret_file import read_or_make_secret, read_secret
from celeriac.errors import AuthenticationError, SettingsError
from celeriac.settings import Settings

SYMMETRIC: Final = "HS256"
ASYMMETRIC: Final = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
)
#: Longest token that is looked at (characters).
MAX_LENGTH: Final = 8192
MAX_USER_ID_LENGTH: Final = 256

# A short secret is said once, at the start, and not at each token.
warnings.filterwarnings("ignore", category=jwt.warnings.InsecureKeyLengthWarning)


class TokenVerifier:
    """Verifies tokens; belongs to one event loop where keys are fetched."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._access = settings.access
        self._keys = (
            None if self._access.jwks is None else KeySet(self._access.jwks, refresh_s=self._access.jwks_refresh)
        )

    async def verify(self, token: str) -> Principal:
        """Return who shows the token; raises `AuthenticationError` that says why it is not good (never what it was)."""
        if len(token) > MAX_LENGTH:
            raise AuthenticationError("the token is too long")
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError) as exc:
            raise AuthenticationError("that is no token") from exc
        algorithm, kid = header.get("alg"), header.get("kid")
        if algorithm == SYMMETRIC and (secret := self._secret()) is not None:
            return self._decoded(token, secret, SYMMETRIC)
        if self._keys is not None and isinstance(algorithm, str) and algorithm in ASYMMETRIC:
            key = await self._keys.key(kid if isinstance(kid, str) else None, algorithm)
            return self._decoded(token, key.key, algorithm)
        raise AuthenticationError("the token is signed in a way that is not accepted here")

    def _secret(self) -> str | None:
        if self._access.jwt_secret is not None:
            return self._access.jwt_secret.get_secret_value()
        # An issuer's tokens only, then.
        return None if self._access.jwks is not None else read_secret(self._settings.data_dir)

    def _decoded(self, token: str, key: Any, algorithm: str) -> Principal:
        access = self._access
        required = ["sub", *(["exp"] if access.require_expiry else [])]
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=access.audience,
                issuer=access.issuer,
                leeway=access.leeway,
                # `iat` only says when: an issuer's clock that is ahead is no reason to refuse.
                options={"require": required, "verify_iat": False, "verify_aud": access.audience is not None},
            )
        except jwt.ExpiredSignatureError as exc:
            raise AuthenticationError("the token has expired") from exc
        except jwt.PyJWTError as exc:
            raise AuthenticationError(f"the token is not valid: {_reason(exc)}") from exc
        return self._principal(claims)

    def _principal(self, claims: Mapping[str, Any]) -> Principal:
        user_id = claims["sub"]
        if not user_id or len(user_id) > MAX_USER_ID_LENGTH or not user_id.isprintable():
            raise AuthenticationError("the token's `sub` is no user id")
        expires_at = claims.get("exp")
        if expires_at is None and isinstance(issued_at := claims.get("iat"), int | float):
            expires_at = issued_at + self._access.token_lifetime
            if expires_at + self._access.leeway <= time.time():
                raise AuthenticationError("the token has expired")
        scope = claims.get("scope")
        words = scope.split() if isinstance(scope, str) else scope if isinstance(scope, list) else None
        scopes = read_scopes(self._access.default_scopes if words is None else [str(word) for word in words])
        return Principal(
            user_id,
            scopes,
            Kind.TOKEN,
            credential=str(claims.get("jti", ""))[:100],
            expires_at=None if expires_at is None else float(expires_at),
        )


def mint_token(settings: Settings, *, user_id: str, scopes: Collection[Scope], ttl_s: float | None = None) -> str:
    """Return a token of `user_id`, good for `ttl_s` (default: setting `access.token_lifetime`).

    Signed with `access.jwt_secret`, else with the secret of the data folder, which is made if there is none.
    Raises `SettingsError` where tokens come from an issuer.
    """
    access = settings.access
    if access.jwt_secret is not None:
        secret = access.jwt_secret.get_secret_value()
    elif access.jwks is not None:
        raise SettingsError("tokens are signed by the issuer of access.jwks, and only there")
    else:
        secret = read_or_make_secret(settings.data_dir)
    now = time.time()
    claims: dict[str, Any] = {
        "sub": user_id,
        "scope": " ".join(sorted(scopes)),
        "iat": int(now),
        "exp": int(now + (access.token_lifetime if ttl_s is None else ttl_s)),
        "jti": secrets.token_hex(8),
    }
    if access.audience is not None:
        claims["aud"] = access.audience
    if access.issuer is not None:
        claims["iss"] = access.issuer
    return jwt.encode(claims, secret, algorithm=SYMMETRIC)


def _reason(exc: jwt.PyJWTError) -> str:
    match exc:
        case jwt.InvalidSignatureError():
            return "its signature is wrong: another secret than the server's made it"
        case jwt.InvalidAudienceError():
            return "it is meant for another audience"
        case jwt.InvalidIssuerError():
            return "it comes from another issuer"
        case jwt.ImmatureSignatureError():
            return "it is not valid yet"
        case jwt.MissingRequiredClaimError():
            return f"it lacks the claim {exc.claim}"
    return "it is damaged"
