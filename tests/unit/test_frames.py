"""Frames that are read and written without the library say the same as those of the library."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.protocol import CLIENT, SERVER, Protocol

from celeriac_api.http.frames import lone_text, text_frame

LARGE = st.sampled_from([0, 1, 125, 126, 127, 65_535, 65_536, 70_000])


def as_client(*frames: Frame) -> bytes:
    """Return frames as a client sends them, masked."""
    client = Protocol(CLIENT)
    for frame in frames:
        client.send_frame(frame)
    return b"".join(client.data_to_send())


@given(st.text(max_size=40), LARGE)
def test_a_text_goes_out_as_the_library_would_send_it(text: str, more: int) -> None:
    text += "x" * more
    server = Protocol(SERVER)
    server.send_text(text.encode())
    assert text_frame(text) == b"".join(server.data_to_send())


@given(st.text(max_size=40), st.sampled_from([0, 1, 125, 126, 127, 4_000]))
def test_a_text_that_comes_alone_is_read_as_the_library_reads_it(text: str, more: int) -> None:
    text += "x" * more
    data = as_client(Frame(Opcode.TEXT, text.encode()))
    assert lone_text(data, 1_000_000) == text
    assert lone_text(data, len(text.encode())) == text
    assert lone_text(data, len(text.encode()) - 1) is None, "too large"


@given(
    st.lists(
        st.tuples(
            st.sampled_from([Opcode.TEXT, Opcode.BINARY, Opcode.CONT, Opcode.PING, Opcode.PONG, Opcode.CLOSE]),
            st.binary(max_size=120),
            st.booleans(),
            st.booleans(),
        ),
        min_size=1,
        max_size=3,
    ),
    st.integers(0, 20),
    st.booleans(),
)
def test_all_else_is_left_to_the_library(
    parts: list[tuple[Opcode, bytes, bool, bool]], missing: int, masked: bool
) -> None:
    data = b""
    for opcode, sent, fin, reserved in parts:
        frame = bytearray(Frame(opcode, sent, fin or opcode.value >= 8).serialize(mask=masked))
        frame[0] |= 0x40 if reserved else 0
        data += bytes(frame)
    data = data[: len(data) - missing] if missing else data
    alone = len(parts) == 1 and not missing and masked
    (opcode, sent, fin, reserved), *_ = parts
    try:
        text = sent.decode()
    except UnicodeDecodeError:
        text = None
    expected = text if alone and opcode is Opcode.TEXT and fin and not reserved else None
    assert lone_text(data, 1_000) == expected


@given(st.binary(max_size=30))
def test_bytes_of_any_kind_are_no_reason_to_fail(data: bytes) -> None:
    lone_text(data, 1_000)
