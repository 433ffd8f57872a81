"""Tokens: JSON Web Tokens (RFC 7519), made with a secret, verified with it or with an issuer's public keys.

`sub` is the user's id, `scope` has the scopes, separated by spaces. A token names its algorithm, but each kind of key
allows only its own algorithms: a public key is never used as a secret, and a token without a signature is refused.
"""

from __future__ import annotations

import secrets
import time
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

import jwt

from celeriac.access.key_set import KeySet
from celeriac.access.principal import Principal, PrincipalKind, Scope, read_scopes
from celeriac.access.secret_file import read_or_make_secret, read_secret
from celeriac.errors import AuthenticationError, SettingsError
from celeriac.settings import AccessSettings

SYMMETRIC: Final = "HS256"
ASYMMETRIC: Final = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
)
#: Longer tokens are refused unread (characters).
MAX_LENGTH: Final = 8192
MAX_USER_ID_LENGTH: Final = 256

# The server warns about a short secret once, when it starts, and not for each token.
warnings.filterwarnings("ignore", category=jwt.warnings.InsecureKeyLengthWarning)


class TokenVerifier:
    """Verifies tokens. With `access.jwks` it belongs to one event loop, on which it fetches keys.

    `data_dir` is where the secret lies that tokens are signed with if `access` configures none.
    """

    def __init__(self, access: AccessSettings, *, data_dir: Path) -> None:
        self._access = access
        self._data_dir = data_dir
        self._keys = None if access.jwks is None else KeySet(access.jwks, refresh_s=access.jwks_refresh)

    async def verify(self, token: str) -> Principal:
        """Return the token's principal; raises `AuthenticationError`, which tells why and never quotes the token."""
        if len(token) > MAX_LENGTH:
            raise AuthenticationError(f"the token is longer than {MAX_LENGTH} characters")
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError) as exc:
            raise AuthenticationError("this is not a valid token; create one with `celeriac token`") from exc
        algorithm, kid = header.get("alg"), header.get("kid")
        if algorithm == SYMMETRIC and (secret := self._secret()) is not None:
            return self._decoded(token, secret, SYMMETRIC)
        if self._keys is not None and isinstance(algorithm, str) and algorithm in ASYMMETRIC:
            key = await self._keys.key(kid if isinstance(kid, str) else None, algorithm)
            return self._decoded(token, key.key, algorithm)
        raise AuthenticationError(f"the token is signed with {str(algorithm)[:20]!r}, for which this server has no key")

    def _secret(self) -> str | None:
        if self._access.jwt_secret is not None:
            return self._access.jwt_secret.get_secret_value()
        # With an issuer and no secret, only the issuer's tokens are accepted.
        return None if self._access.jwks is not None else read_secret(self._data_dir)

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
                # `iat` only informs: a token is not refused because its issuer's clock is ahead.
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
            raise AuthenticationError(
                f"the token's `sub` must be a user id: 1 to {MAX_USER_ID_LENGTH} printable characters"
            )
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
            PrincipalKind.TOKEN,
            credential=str(claims.get("jti", ""))[:100],
            expires_at=None if expires_at is None else float(expires_at),
        )


def mint_token(
    access: AccessSettings, *, data_dir: Path, user_id: str, scopes: Collection[Scope], ttl_s: float | None = None
) -> str:
    """Return a token of `user_id` that is valid for `ttl_s` (default: setting `access.token_lifetime`).

    It is signed with `access.jwt_secret`, else with the secret in `data_dir`, which is made if there is none.
    Raises `SettingsError` if an issuer makes the tokens (`access.jwks`).
    """
    if access.jwt_secret is not None:
        secret = access.jwt_secret.get_secret_value()
    elif access.jwks is not None:
        raise SettingsError(
            "access.jwks is set, so its issuer makes the tokens: ask there, or set JWT_SECRET to make your own"
        )
    else:
        secret = read_or_make_secret(data_dir)
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
            return "its signature is wrong: it was not made with this server's secret"
        case jwt.InvalidAudienceError():
            return "its audience (aud) is not the one that access.audience names"
        case jwt.InvalidIssuerError():
            return "its issuer (iss) is not the one that access.issuer names"
        case jwt.ImmatureSignatureError():
            return "it is not valid yet"
        case jwt.MissingRequiredClaimError():
            return f"it lacks the claim {exc.claim}"
    return "it is damaged"
