from __future__ import annotations

import io
import json
import threading

import pytest

from celeriac.up.child_output import LONGEST_LINE, MOST_WAITING, LineReader, Screen


@pytest.fixture
async def lines() -> list[str]:
    return []


async def test_lines_are_cut_out_of_any_portions(lines: list[str]) -> None:
    reader = LineReader(lines.append)
    for portion in (b"on", b"e\ntwo\r\n", b"\nthr", b"ee"):
        reader.data_received(portion)
    assert lines == ["one", "two", ""]
    reader.connection_lost(None)
    assert lines[3:] == ["three"]


async def test_a_huge_line_costs_no_more_than_its_limit(lines: list[str]) -> None:
    reader = LineReader(lines.append)
    for _ in range(100):
        reader.data_received(b"x" * 100_000)
    assert lines == []
    reader.data_received(b"\nnext\n")
    assert lines == ["x" * LONGEST_LINE + " … (line cut)", "next"]


async def test_bytes_that_are_no_text_are_shown_as_such(lines: list[str]) -> None:
    LineReader(lines.append).data_received(b"caf\xc3\xa9 \xff\n")
    assert lines == ["café \N{REPLACEMENT CHARACTER}"]


def test_each_line_carries_its_role() -> None:
    stream = io.StringIO()
    screen = Screen(stream, colours=False)
    screen.line("api", "hello")
    screen.line("valkey-server", "bye")
    screen.close()
    assert stream.getvalue() == "api    | hello\nvalkey-server | bye\n"


def test_what_a_child_writes_may_be_coloured_but_steers_no_terminal() -> None:
    stream = io.StringIO()
    screen = Screen(stream, colours=False)
    screen.line("api", "\x1b[1;31mred\x1b[K\tand \x1b]0;title\x07 \x1b[2Jgone\rover \x9b1A\x00")
    screen.close()
    mark = "\N{REPLACEMENT CHARACTER}"
    said = f"\x1b[1;31mred\tand {mark}]0;title{mark} {mark}[2Jgone{mark}over {mark}1A{mark}\x1b[0m"
    assert stream.getvalue() == f"api    | {said}\n"


def test_of_a_line_that_is_written_over_a_terminal_shows_the_last() -> None:
    stream = io.StringIO()
    screen = Screen(stream, colours=True)
    screen.line("api", "10 %\r20 %\rdone")
    screen.close()
    assert stream.getvalue().endswith(" done\n")


def test_roles_have_colours_of_their_own_on_a_terminal() -> None:
    stream = io.StringIO()
    screen = Screen(stream, colours=True)
    screen.line("api", "a")
    screen.line("beat", "b")
    screen.close()
    assert stream.getvalue() == "\x1b[36mapi    |\x1b[0m a\n\x1b[32mbeat   |\x1b[0m b\n"


def test_as_json_every_line_is_one_object() -> None:
    stream = io.StringIO()
    screen = Screen(stream, as_json=True)
    screen.line("api", '{"event": "own"}')
    screen.line("demo", "plain")
    screen.close()
    own, plain = map(json.loads, stream.getvalue().splitlines())
    assert own == {"event": "own"}
    assert (plain["role"], plain["event"]) == ("demo", "plain")


def test_passwords_of_urls_are_not_shown() -> None:
    stream = io.StringIO()
    screen = Screen(stream, colours=False)
    screen.line("demo", "connected to redis://:s3cret@127.0.0.1:6390/0")
    screen.close()
    assert "s3cret" not in stream.getvalue()
    assert "redis://:***@127.0.0.1:6390/0" in stream.getvalue()


class _HeldTerminal(io.StringIO):
    """A terminal that shows nothing until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = threading.Event()
        self.asked = threading.Event()

    def write(self, text: str) -> int:
        self.asked.set()
        self.go_on.wait(10)
        return super().write(text)


def test_a_held_terminal_holds_nobody_up_and_what_it_missed_is_counted() -> None:
    terminal = _HeldTerminal()
    screen = Screen(terminal, colours=False)
    screen.line("api", "first")
    assert terminal.asked.wait(10)
    for number in range(MOST_WAITING + 7):
        screen.line("api", str(number))
    terminal.go_on.set()
    screen.close(timeout_s=10)
    shown = terminal.getvalue().splitlines()
    assert shown[1] == "up     | 7 lines were dropped, because the output was read too slowly"
    assert shown[2] == "api    | 7"
    assert len(shown) == 1 + 1 + MOST_WAITING


class _ClosedPipe(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_an_output_that_nobody_reads_is_no_reason_to_fail() -> None:
    screen = Screen(_ClosedPipe(), colours=False)
    screen.line("api", "one")
    screen.line("api", "two")
    screen.close()
