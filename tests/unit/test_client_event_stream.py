"""Reading server-sent events: any bytes, in any pieces."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celeriac.client.http import event_stream
from celeriac.client.http.event_stream import EventReader, ServerEvent

STREAM = (
    "retry: 1000\n\nevent: progress\nid: 1-0\ndata: {}\n\n: keep-alive\n\nevent: done\nid: 2-0\ndata: ä\ndata:b\n\n"
)
EVENTS = [ServerEvent("progress", "{}", "1-0"), ServerEvent("done", "ä\nb", "2-0")]


@given(
    st.sampled_from(["\n", "\r\n", "\r"]), st.lists(st.integers(0, len(STREAM.encode()) * 2), max_size=30).map(sorted)
)
def test_events_are_the_same_however_they_are_cut_and_their_lines_end(end: str, cuts: list[int]) -> None:
    raw = STREAM.replace("\n", end).encode()
    reader = EventReader()
    bounds = [0, *cuts, len(raw)]
    pieces = [raw[a:b] for a, b in pairwise(bounds)]
    assert [event for piece in pieces for event in reader.feed(piece)] == EVENTS


def test_an_event_that_was_cut_off_is_none_and_its_id_does_not_count() -> None:
    reader = EventReader("1-0")
    assert list(reader.feed(b"id: 2-0\ndata: x\n")) == []
    assert list(reader.feed(b"\nid: 3-0\ndata: y")) == [ServerEvent("message", "x", "2-0")]


def test_the_id_goes_on_from_before_and_without_data_there_is_no_event() -> None:
    reader = EventReader("7-0")
    assert list(reader.feed(b"event: progress\ndata: x\n\nevent: empty\nid: 8-0\n\ndata: y\n\n")) == [
        ServerEvent("progress", "x", "7-0"),
        ServerEvent("message", "y", "8-0"),
    ]
    assert [event.last_id for event in reader.feed(b"id: 9\0\ndata: z\n\n")] == ["8-0"]


def test_a_line_beyond_all_bounds_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "MAX_LINE_BYTES", 10)
    reader = EventReader()
    assert list(reader.feed(b"data: 1234\n")) == []
    with pytest.raises(ValueError, match="longer than 10 bytes"):
        list(reader.feed(b"data: 12345"))
