"""The Lua files keep the rules that no interpreter checks."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import pytest

from celeriac.store.server.scripts import SHARED, WITH_PARTS, every_function, script, shared_part
from celeriac.task_fields import STORED

LUA = Path(str(files("celeriac.store"))) / "lua"
SCRIPTS = sorted(path for folder in ("transitions", "reads", "plumbing") for path in (LUA / folder).glob("*.lua"))


def test_the_folders_say_what_a_script_is() -> None:
    assert sorted(path.stem for path in (LUA / "shared").iterdir()) == sorted(SHARED)
    assert {one.name for one in every_function()} == {
        path.stem for path in (LUA / "transitions").iterdir()
    } | WITH_PARTS
    assert len({path.stem for path in SCRIPTS}) == len(SCRIPTS), "scripts are found by their names"
    for path in SCRIPTS:
        assert script(path.stem).source.endswith(path.read_text("utf-8"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_has_fewer_variables_than_lua_can_hold(path: Path) -> None:
    found = re.findall(r"^local (function )?(\w+(?:, \w+)*)", script(path.stem).source, re.MULTILINE)
    # Lua holds 200 at once in a function. Those that only one part uses can be inside of `do … end`.
    assert sum(len(names.split(", ")) for _, names in found) < 190


def test_the_library_has_fewer_variables_than_lua_can_hold() -> None:
    found = [
        name
        for part in SHARED
        for name in re.findall(r"^local (?:function )?(.+?)(?: =|\(|$)", shared_part(part), re.M)
    ]
    # Lua holds 200 at once in a function. A block `do … end` has up to twenty more of its own.
    assert sum(len(names.split(", ")) for names in found) <= 180


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_says_what_it_takes_and_returns_and_names_it_at_the_top(path: Path) -> None:
    header, body = path.read_text("utf-8").split("\n\n", 1)
    assert all(line.startswith("--") for line in header.splitlines())
    assert "Returns " in header
    first = 4 if path.parent.name == "transitions" or path.stem in WITH_PARTS else 1
    for kind, number in set(re.findall(r"(KEYS|ARGV)\[(\d+)\]", body)):
        assert f"{kind}[{number}]" in header or int(number) < first
    assert "ARGV[" in header or "KEYS[" in header
    _, _, rest = body.partition("\n\n")
    assert not re.search(r"(KEYS|ARGV)\[\d+\]", rest), "an argument is used by its number below the top of the script"


@pytest.mark.parametrize("path", sorted(LUA.rglob("*.lua")), ids=lambda path: path.stem)
def test_fields_are_read_by_name(path: Path) -> None:
    text = path.read_text("utf-8")
    assert not re.search(r"\bf\[\d+\]", text)
    # `local status, fence = fields(id, 'status', 'fence')`: the variables stand in the order of the fields.
    other = {"queue": "group", "message_text": "message", "fence": "holder", "timestamp_ms": "reported_ms"}
    found = re.findall(
        r"local ([\w, ]+?) =\s+(?:fields\(\w+|unpack\(redis\.call\('HMGET', \w+(?:\([\w]+\))?)((?:,\s+'\w+')+)\)", text
    )
    for variables, named in found:
        for variable, name in zip(variables.split(", "), re.findall(r"'(\w+)'", named), strict=True):
            assert variable in (name, other.get(name)) or variable.endswith(f"_{name}"), f"{variable} = {name}"


@pytest.mark.parametrize("path", sorted(LUA.rglob("*.lua")), ids=lambda path: path.stem)
def test_fields_that_are_read_are_in_the_table_of_fields(path: Path) -> None:
    text = path.read_text("utf-8")
    for place in (r"\bfields\(\w+((?:,\s+'\w+')+)", r"\bread\([\w.\[\]]+, \{([^}]*)", r"FIELDS\w* = \{([^}]*)"):
        for names in re.findall(place, text):
            assert set(re.findall(r"'(\w+)'", names)) <= STORED, path
