"""`celeriac --help` loads no command, so what it shows is written down: it has to be what the commands say."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import typer.main

import celeriac.cli.commands
from celeriac.cli.command_table import COMMANDS
from celeriac.cli.main import app

MODULES = sorted({path.stem for path in Path(celeriac.cli.commands.__path__[0]).glob("*.py")} - {"__init__"})


def registered(module: str) -> dict[str, Any]:
    """Return the commands that a module registers, as Typer makes them."""
    around = typer.Typer()
    loaded = importlib.import_module(f"celeriac.cli.commands.{module}")
    if not hasattr(loaded, "register"):
        return {}
    loaded.register(around)
    return dict(typer.main.get_group(around).commands)


def test_the_table_has_all_commands_of_all_modules() -> None:
    real = {(name, module) for module in MODULES for name in registered(module)}
    assert {(entry.name, entry.module) for entry in COMMANDS} == real
    assert len(COMMANDS) == len(real)


@pytest.mark.parametrize("entry", COMMANDS, ids=lambda entry: entry.name)
def test_the_table_says_what_the_command_says(entry: Any) -> None:
    real = registered(entry.module)[entry.name]
    first_paragraph = (real.short_help or real.help).split("\n\n")[0].replace("\n", " ")
    assert entry.help == first_paragraph, f"correct the help of {entry.name!r} in celeriac/cli/command_table.py"
    assert entry.panel == real.rich_help_panel


def test_whoever_walks_the_commands_sees_the_real_ones() -> None:
    group: Any = typer.main.get_command(app)
    assert list(group.commands) == [entry.name for entry in COMMANDS]
    assert "pause" in group.commands["groups"].commands
    assert any(parameter.name == "payload" for parameter in group.commands["submit"].params)
    assert group.get_command(None, "stauts") is None
