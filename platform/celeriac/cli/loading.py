"""Commands whose modules are imported when they run: `celeriac --help` and a misspelt command load none of them."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from celeriac.cli.plain_help import make_parameter_plain, make_plain


@dataclass(frozen=True, slots=True)
class Entry:
    """One command: the module of `celeriac.cli.commands` that registers it, and what `celeriac --help` shows."""

    name: str
    module: str
    panel: str
    #: The first sentences of the command's own help; a test compares them.
    help: str


class LazyGroup(TyperGroup):
    """A group of commands that are known by their entries. `commands` holds the real ones, loaded one at a time."""

    entries: tuple[Entry, ...] = ()

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self._entries = {entry.name: entry for entry in self.entries}
        self.commands = _Commands(self._entries, self.rich_markup_mode)  # type: ignore[assignment]

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the options of `celeriac` itself."""
        found = super().get_params(ctx)
        for parameter in found:
            make_parameter_plain(parameter)
        return found

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names in the order of the entries."""
        return list(self._entries)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command that can be listed, and that loads the real one to run."""
        entry = self._entries.get(cmd_name)
        return None if entry is None else _Listed(entry, self.commands)


class _Listed(TyperCommand):
    """What help and completion show of a command. Parsing its arguments is left to the real one."""

    def __init__(self, entry: Entry, commands: Mapping[str, Any]) -> None:
        super().__init__(entry.name, help=entry.help, rich_help_panel=entry.panel)
        self._commands = commands

    def make_context(self, info_name: Any, args: list[str], parent: Any = None, **extra: Any) -> Any:
        return self._commands[str(self.name)].make_context(info_name, args, parent, **extra)


class _Commands(Mapping[str, Any]):
    """The real commands. Looking one up imports its module."""

    def __init__(self, entries: Mapping[str, Entry], markup_mode: Any) -> None:
        self._entries = entries
        self._markup_mode = markup_mode
        self._loaded: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        entry = self._entries[name]
        if name not in self._loaded:
            module = importlib.import_module(f"celeriac.cli.commands.{entry.module}")
            around = typer.Typer(rich_markup_mode=self._markup_mode, add_completion=False)
            module.register(around)
            for loaded, command in typer.main.get_group(around).commands.items():
                make_plain(command)
                self._loaded[loaded] = command
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
