"""Tables for people."""

from __future__ import annotations

import io
import re

import pytest

from celeriac.cli.tables import print_table, spark

HEADER = ("ID", "STATUS", "ERROR")
LONG = "3f8a4c0a-9d5b-4c0a-8a8e-0f0fb8a40f0f"
ROWS = [(LONG, "failed", "broken: " + "x" * 200), ("b", "completed", None)]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_bars_are_in_proportion_to_the_highest_and_nothing_is_a_dot() -> None:
    assert spark([0, 1, 4, 8, 0.001]) == "·▂▅█▁"
    assert spark([0, 0]) == "··"
    assert spark([]) == ""


def test_a_pipe_gets_plain_columns_at_full_width(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(HEADER, ROWS, empty="none")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{'ID':<36}  STATUS     ERROR"
    assert lines[1].endswith("x" * 200)
    assert lines[2] == f"{'b':<36}  completed"
    print_table(HEADER, [], empty="none")
    assert capsys.readouterr().out == "none\n"


def test_a_terminal_gets_whole_ids_and_lines_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setenv("COLUMNS", "70")
    monkeypatch.setenv("TERM", "xterm-256color")
    print_table(HEADER, [*ROWS, ("c", "[red]odd", "\x1b[2J")], empty="none")
    text = terminal.getvalue()
    assert "\x1b[31mfailed" in text, "a status has its colour"
    assert "\x1b[2J" not in text
    assert "[red]odd" in text, "values are no markup"
    lines = re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()
    assert lines[1].startswith(LONG)
    assert max(map(len, lines)) <= 70
    assert len(lines) == 4


def test_a_narrow_terminal_loses_nothing_but_free_text(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setenv("COLUMNS", "40")
    print_table(HEADER, ROWS, empty="none")
    lines = re.sub(r"\x1b\[[0-9;]*m", "", terminal.getvalue()).splitlines()
    assert lines[1].startswith(f"{LONG}  failed     broken: xxx")
    assert len(lines[1].rstrip()) < 70
