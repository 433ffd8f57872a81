"""The public keys of a token issuer: a JSON Web Key Set (RFC 7517) in a file or at a URL, fetched again at times."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import time
import urllib.request
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import jwt

from celeriac import json_text
from celeriac.errors import AuthenticationError, SettingsError

log = logging.getLogger(__name__)

_TIMEOUT_S: Final = 5.0
_MAX_BYTES: Final = 1024**2
#: Shortest pause between two fetches that unknown key ids cause: anybody can invent key ids.
_UNKNOWN_PAUSE_S: Final = 10.0


class KeySet:
    """Finds the key that a token names. One fetch runs at a time; while the source is away, old keys stay in use."""

    def __init__(self, source: str, *, refresh_s: float) -> None:
        self._source = source
        self._refresh_s = refresh_s
        self._keys: list[jwt.PyJWK] = []
        self._fetched_at = self._tried_at = float("-inf")
        self._fetching = asyncio.Lock()
        parts = urlsplit(source)
        self._remote = parts.scheme in ("http", "https")
        if parts.scheme == "http" and not _loopback(parts.hostname or ""):
            raise SettingsError(
                f"access.jwks: {source} is not encrypted, so its keys could be replaced on the way: use https"
            )

    async def key(self, kid: str | None, algorithm: str) -> jwt.PyJWK:
        """Return the key `kid` (None: the only one that fits) for `algorithm`; raises `AuthenticationError`."""
        if time.monotonic() - self._fetched_at > self._refresh_s:
            await self._fetch(min_pause_s=1.0)
        found = self._find(kid, algorithm)
        if found is None:
            await self._fetch(min_pause_s=_UNKNOWN_PAUSE_S)
            found = self._find(kid, algorithm)
        if found is None:
            raise AuthenticationError("the token is signed with a key that is not in the issuer's key set")
        return found

    def _find(self, kid: str | None, algorithm: str) -> jwt.PyJWK | None:
        fitting = [key for key in self._keys if key.algorithm_name == algorithm]
        if kid is not None:
            return next((key for key in fitting if key.key_id == kid), None)
        return fitting[0] if len(fitting) == 1 else None

    async def _fetch(self, *, min_pause_s: float) -> None:
        asked_at = time.monotonic()
        async with self._fetching:
            if self._tried_at > asked_at or time.monotonic() - self._tried_at < min_pause_s:
                return  # another caller has just done it
            self._tried_at = time.monotonic()
            try:
                content = await asyncio.to_thread(self._read)
                document = json_text.read(content)
                self._keys = _usable(document["keys"])
                self._fetched_at = time.monotonic()
            except (OSError, ValueError, KeyError, TypeError) as exc:
                log.warning("the key set %s cannot be read: %s", self._source, exc)

    def _read(self) -> bytes:
        if not self._remote:
            return Path(self._source.removeprefix("file://")).read_bytes()
        request = urllib.request.Request(self._source, headers={"Accept": "application/json"})  # noqa: S310 - http(s)
        # A proxy of the environment leads to the outside world, not to this machine.
        direct = [urllib.request.ProxyHandler({})] if _loopback(urlsplit(self._source).hostname or "") else []
        with urllib.request.build_opener(_Redirects, *direct).open(request, timeout=_TIMEOUT_S) as answer:
            content: bytes = answer.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise ValueError(f"it is larger than {_MAX_BYTES} bytes")
        return content


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to addresses that are encrypted, or that stay on this machine."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        """Return the next request; raises `OSError` for an address that is not encrypted."""
        target = urlsplit(newurl)
        if target.scheme != "https" and (req.type == "https" or not _loopback(target.hostname or "")):
            raise OSError(f"it redirects to {newurl[:200]}, which is not encrypted: let the issuer redirect to https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _usable(documents: list[dict[str, object]]) -> list[jwt.PyJWK]:
    keys = []
    for document in documents:
        # With a symmetric key in a public set everybody could sign; keys for encryption do not sign at all.
        if document.get("kty") == "oct" or document.get("use", "sig") != "sig":
            continue
        try:
            keys.append(jwt.PyJWK(document))
        except jwt.PyJWTError:
            continue
    return keys


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
