"""The tokens of signal links: `/a/TOKEN` answers one signal of one task without a sign-in.

A token is base64url of a signature and a JSON list `[task_id, signal, valid_until_ms]`. The signature is HMAC-SHA256
with the secret that all processes of an installation share, so that a worker makes a link without asking anybody.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from base64 import b64decode, urlsafe_b64encode
from typing import Final, NamedTuple

from celeriac import json_text
from celeriac.errors import InvalidSubmissionError, JsonError, Violation

#: The name of a signal: it is a part of URLs and of names in the store.
SIGNAL_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,127}")
#: Where links are below the address of the API.
PATH: Final = "/a"
#: Bytes of a secret.
SECRET_BYTES: Final = 32
#: Longest token (characters): an id and a name of 255 characters each, at six bytes in JSON, leave room.
_MAX_TOKEN: Final = 6000
_PURPOSE: Final = b"celeriac signal link\x00"
_SIGNATURE_BYTES: Final = 16


def check_signal_name(name: str) -> None:
    """Raise `InvalidSubmissionError` if a signal cannot have this name."""
    if SIGNAL_NAME.fullmatch(name) is None:
        message = f"{name[:200]!r} is not the name of a signal: use up to 128 letters, digits and _ . : -"
        raise InvalidSubmissionError([Violation("signal", message)])


class SignalLink(NamedTuple):
    """What a token is for."""

    task_id: str
    signal: str
    #: Until when it answers (milliseconds since the epoch).
    valid_until_ms: int


class SignalLinks:
    """Makes and reads tokens. `address` is that of the API, without a slash at its end."""

    def __init__(self, secret: bytes, address: str) -> None:
        self._secret = secret
        self._address = address.rstrip("/")

    def url(self, task_id: str, signal: str, valid_s: float) -> str:
        """Return a link that answers a signal from now on for `valid_s` seconds."""
        # The clock of this host: a link is made without a round trip.
        until_ms = round((time.time() + valid_s) * 1000)
        return f"{self._address}{PATH}/{make_token(self._secret, SignalLink(task_id, signal, until_ms))}"


def make_token(secret: bytes, link: SignalLink) -> str:
    """Return the token of a link."""
    content = json_text.write_bytes(list(link))
    return urlsafe_b64encode(_signature(secret, content) + content).rstrip(b"=").decode()


def read_token(secret: bytes, token: str) -> SignalLink | None:
    """Return what a token is for, or None for one that was not made with this secret."""
    if len(token) > _MAX_TOKEN or not token.isascii():
        return None
    try:
        whole = b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except ValueError:
        return None
    signature, content = whole[:_SIGNATURE_BYTES], whole[_SIGNATURE_BYTES:]
    if not hmac.compare_digest(signature, _signature(secret, content)):
        return None
    try:
        task_id, signal, until_ms = json_text.read(content)
    except (JsonError, TypeError, ValueError):
        return None
    return SignalLink(str(task_id), str(signal), int(until_ms))


def _signature(secret: bytes, content: bytes) -> bytes:
    return hmac.new(secret, _PURPOSE + content, hashlib.sha256).digest()[:_SIGNATURE_BYTES]
