"""Write docs/settings.md from the settings themselves; `--check` fails where it is stale.

Each field's text is the `#:` comment above it; a section's is its docstring.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from celeriac.settings import WELL_KNOWN, Settings

TARGET = Path(__file__).parents[1] / "docs" / "settings.md"
_RULE = "| --- | --- | --- |"
_HEAD = """# Settings

Written by `tools/settings_reference.py` from the code.

A value comes from, highest first: an option of the command line, the environment, the YAML (or JSON) file (`--config`,
`CELERIAC_CONFIG`, else `celeriac.yaml` in the current folder), the default.

In the file, levels are nested. In the environment, a setting is `CELERIAC_` and its path in capitals with `__` between
the levels (`CELERIAC_WORKER__CONCURRENCY=8`); lists and maps are written as YAML. The short names below need no prefix,
and `NAME_FILE` names a file with the value. Durations are `500ms`, `30s`, `10m`, `1h`, `7d` or plain seconds; sizes are
`512KiB`, `10MiB`, `1GiB` or plain bytes. An unknown key is an error that names the nearest one.
"""


def main() -> int:
    """Write or check; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing, fail where the page is stale")
    arguments = parser.parse_args()
    text = page()
    if not arguments.check:
        TARGET.write_text(text, encoding="utf-8")
        return 0
    if TARGET.read_text(encoding="utf-8") == text:
        return 0
    print(f"{TARGET} is stale: run python tools/settings_reference.py", file=sys.stderr)
    return 1


def page() -> str:
    """Return the whole page."""
    short = {path: name for name, path in WELL_KNOWN.items()}
    parts = [_HEAD]
    for title, path, model in sections(Settings, ()):
        lines = [f"## {title}", "", *([_one_line(model.__doc__), ""] if path else [])]
        lines += ["| setting | default | meaning |", _RULE]
        comments = comments_of(model)
        for name, field in model.model_fields.items():
            if section_of(field.annotation) is not None and not keyed(field.annotation):
                continue
            full = ".".join((*path, name))
            also = f" (`{short[(*path, name)]}`)" if (*path, name) in short else ""
            meaning = comments.get(name, "").replace("|", "\\|")
            if choices := choices_of(field.annotation):
                meaning = f"One of {', '.join(f'`{choice}`' for choice in choices)}. {meaning}".strip()
            if keyed(field.annotation):
                meaning = f"{meaning} By name; see [{full}.NAME](#{_anchor(f'{full}.NAME')}).".strip()
            lines.append(f"| `{full}`{also} | {default_of(field)} | {meaning} |")
        if lines[-1] != _RULE:
            parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def sections(model: type[BaseModel], path: tuple[str, ...]) -> Iterator[tuple[str, tuple[str, ...], type[BaseModel]]]:
    """Yield title, path and model of each section, the outer ones first."""
    yield (".".join(path) or "Top level", path, model)
    for name, field in model.model_fields.items():
        child = section_of(field.annotation)
        if child is not None:
            below = (*path, name, "NAME") if keyed(field.annotation) else (*path, name)
            yield from sections(child, below)


def section_of(annotation: Any) -> type[BaseModel] | None:
    """Return the model in an annotation, if there is one."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if getattr(annotation, "__origin__", None) is list:
        return None
    return next((found for part in get_args(annotation) if (found := section_of(part)) is not None), None)


def keyed(annotation: Any) -> bool:
    """Whether the field maps names to sections."""
    return getattr(annotation, "__origin__", None) is dict and section_of(annotation) is not None


def comments_of(model: type[BaseModel]) -> dict[str, str]:
    """Return each field's `#:` comment, its own or that of the class it comes from."""
    found: dict[str, str] = {}
    for owner in reversed(model.__mro__):
        if not (isinstance(owner, type) and issubclass(owner, BaseModel)) or owner is BaseModel:
            continue
        source = inspect.getsource(owner)
        lines = source.splitlines()
        (definition,) = ast.parse(inspect.cleandoc(source) if source[0] == " " else source).body
        assert isinstance(definition, ast.ClassDef)
        previous: tuple[int, str] = (0, "")
        for node in definition.body:
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                comment = _comment_above(lines, node.lineno - 2)
                if not comment and previous[0] == node.lineno - 1:
                    comment = previous[1]  # one text for lines that belong together
                found[node.target.id] = comment
                previous = (node.end_lineno or node.lineno, comment)
    return found


def _comment_above(lines: list[str], index: int) -> str:
    taken: list[str] = []
    while index >= 0 and lines[index].strip().startswith("#:"):
        taken.insert(0, lines[index].strip().removeprefix("#:").strip())
        index -= 1
    return " ".join(taken)


def default_of(field: FieldInfo) -> str:
    """Return the default as it would be written."""
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "(required)"
    if value is None or value in ("", [], {}, ()):
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    spelled = repr((field.annotation, field.metadata))
    if "parse_duration_s" in spelled:
        return f"`{_in_units(round(value * 1000), {'d': 86_400_000, 'h': 3_600_000, 'm': 60_000, 's': 1000, 'ms': 1})}`"
    if "parse_size_bytes" in spelled:
        return f"`{_in_units(value, {'GiB': 1024**3, 'MiB': 1024**2, 'KiB': 1024, '': 1})}`"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, dict):
        return "`" + ", ".join(value) + "`"
    return f"`{value}`"


def _in_units(number: int, units: dict[str, int]) -> str:
    """Return the number in the largest unit that it is a multiple of."""
    if number == 0:
        return "0"
    return next(f"{number // size}{unit}" for unit, size in units.items() if number % size == 0)


def choices_of(annotation: Any) -> list[str]:
    """Return the values of a `Literal`, wherever it stands in an annotation of a single value."""
    if get_origin(annotation) is Literal:
        return [str(choice) for choice in get_args(annotation)]
    if get_origin(annotation) in (Union, UnionType):
        return [choice for part in get_args(annotation) for choice in choices_of(part)]
    return []


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split("\n\n")[0].split())


def _anchor(title: str) -> str:
    return "".join(char for char in title.lower() if char.isalnum() or char in "-_")


if __name__ == "__main__":
    sys.exit(main())
