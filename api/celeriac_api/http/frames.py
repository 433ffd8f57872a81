"""The frames of WebSocket messages that are whole, small texts (RFC 6455, section 5.2). Pure functions.

They are nearly all that servers and clients here exchange. The library reads and writes every other frame.
"""

from __future__ import annotations

from typing import Final

try:
    from websockets.speedups import apply_mask
except ImportError:  # the library was built without its extension
    from websockets.utils import apply_mask

#: The first byte of a text that is one frame, and the bit of the second one that says that it is masked.
_WHOLE_TEXT: Final = 0x81
_MASKED: Final = 0x80
#: Lengths of this and more have two bytes, or eight, of their own; this many fit into two.
_IN_TWO: Final = 126
_IN_EIGHT: Final = 127
_TWO_HOLD: Final = 0x10000


def lone_text(data: bytes, most_bytes: int) -> str | None:
    """Return the text of `data` if that is exactly one masked text frame of at most `most_bytes`, else None."""
    size = len(data)
    if size < 6 or data[0] != _WHOLE_TEXT:
        return None
    length = data[1] - _MASKED
    if 0 <= length < _IN_TWO:
        begin = 6
    elif length == _IN_TWO and size >= 8:
        length, begin = int.from_bytes(data[2:4], "big"), 8
    else:
        return None
    if size != begin + length or length > most_bytes:
        return None
    try:
        return apply_mask(data[begin:], data[begin - 4 : begin]).decode()
    except UnicodeDecodeError:
        return None


def text_frame(text: str) -> bytes:
    """Return a text as one frame of a server, which masks nothing."""
    data = text.encode()
    length = len(data)
    if length < _IN_TWO:
        return bytes((_WHOLE_TEXT, length)) + data
    if length < _TWO_HOLD:
        return bytes((_WHOLE_TEXT, _IN_TWO, length >> 8, length & 0xFF)) + data
    return bytes((_WHOLE_TEXT, _IN_EIGHT)) + length.to_bytes(8, "big") + data
