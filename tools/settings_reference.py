"""Write docs/settings.md from the settings themselves; `--check` fails if the page is stale.

The text of a setting is the `description` of its field, the text of a section is its docstring. Bounds and choices are
read from the field too.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from celeriac.settings import WELL_KNOWN, Settings
from celeriac.settings.values import MAX_DURATION_S

TARGET = Path(__file__).parents[1] / "docs" / "settings.md"
_RULE = "| --- | --- | --- | --- |"
_HEAD = """# Settings

Written by `tools/settings_reference.py` from the code.

A value comes from, highest first: an option of the command line, the environment, the YAML (or JSON) file (`--config`,
`CELERIAC_CONFIG`, else `celeriac.yaml` in the current folder), the default.

In the file, levels are nested. In the environment, a setting is `CELERIAC_` and its path in capitals with `__` between
the levels (`CELERIAC_WORKER__CONCURRENCY=8`); lists and maps are written as YAML, a list of texts also as `A,B`.
The short names below need no prefix, and `NAME_FILE` names a file with the value. Durations are `500ms`, `30s`, `10m`,
`1h`, `7d`, `1h30m` or plain seconds; sizes are `512KiB`, `10MiB`, `1GiB` or plain bytes. An unknown key is
an error that names the nearest known one.
Variables that Kubernetes and Docker make for a service (`CELERIAC_SERVICE_HOST`, `CELERIAC_PORT=tcp://…`) are ignored.
"""


def main() -> int:
    """Write or check the page; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing, fail if the page is stale")
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
        lines += ["| setting | default | accepts | meaning |", _RULE]
        for name, field in model.model_fields.items():
            if section_of(field.annotation) is not None and not keyed(field.annotation):
                continue
            full = ".".join((*path, name))
            also = f" (`{short[(*path, name)]}`)" if (*path, name) in short else ""
            lines.append(f"| `{full}`{also} | {default_of(field)} | {accepted_by(field)} | {meaning_of(full, field)} |")
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


def listed_settings() -> Iterator[tuple[str, FieldInfo]]:
    """Yield the path and the field of each setting on the page; fields that are sections themselves are left out."""
    for _, path, model in sections(Settings, ()):
        for name, field in model.model_fields.items():
            if section_of(field.annotation) is None or keyed(field.annotation):
                yield ".".join((*path, name)), field


def meaning_of(path: str, field: FieldInfo) -> str:
    """Return the meaning of a setting, and a link to the settings of its items."""
    text = field.description or ""
    if keyed(field.annotation):
        text += f" See [{path}.NAME](#{_anchor(f'{path}.NAME')})."
    return text.replace("|", "\\|")


def accepted_by(field: FieldInfo) -> str:
    """Return the values that a setting accepts: its choices, its bounds, or else their kind."""
    if choices := choices_of(field.annotation):
        return ", ".join(f"`{choice}`" for choice in choices)
    if field.annotation is bool or bool in get_args(field.annotation):
        return "`true`, `false`"
    if keyed(field.annotation) or get_origin(field.annotation) is dict:
        return "a map"
    if list in (get_origin(field.annotation), *map(get_origin, get_args(field.annotation))):
        return "a list"
    return bounds_of(field) or kind_of(field)


def kind_of(field: FieldInfo) -> str:
    """Return the kind of a single value, in one or two words."""
    if _is_duration(field):
        return "a duration"
    if _is_size(field):
        return "a size"
    kinds = (field.annotation, *get_args(field.annotation))
    return "a path" if Path in kinds else "a number" if int in kinds or float in kinds else "a text"


def bounds_of(field: FieldInfo) -> str:
    """Return the bounds of a number, without the bounds that every duration and size has."""
    least = max((c.ge for c in field.metadata if isinstance(c, Ge)), default=None)  # type: ignore[type-var]
    above = next((c.gt for c in field.metadata if isinstance(c, Gt)), None)
    most = min((c.le for c in field.metadata if isinstance(c, Le)), default=None)  # type: ignore[type-var]
    if most == MAX_DURATION_S:
        most = None
    if above is not None:
        low = f"more than `{_written(above, field)}`"
        return low if most is None else f"{low}, up to `{_written(most, field)}`"
    if most is None:
        plain = least is None or (least == 0 and (_is_duration(field) or _is_size(field)))
        return "" if plain else f"`{_written(least, field)}` or more"
    return f"`{_written(least or 0, field)}` to `{_written(most, field)}`"


def default_of(field: FieldInfo) -> str:
    """Return the default as a user would write it."""
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "(required)"
    if value is None or value in ("", [], {}, ()):
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, dict):
        return "`" + ", ".join(value) + "`"
    if isinstance(value, list):
        return ", ".join(f"`{item}`" for item in value)
    return f"`{_written(value, field)}`"


def _written(value: Any, field: FieldInfo) -> str:
    """Return a value of this field as a user would write it: durations and sizes in the largest exact unit."""
    if _is_duration(field):
        return _in_units(round(value * 1000), {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1})
    if _is_size(field):
        return _in_units(value, {"GiB": 1024**3, "MiB": 1024**2, "KiB": 1024, "": 1})
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value)


def _is_duration(field: FieldInfo) -> bool:
    return "parse_duration_s" in repr((field.annotation, field.metadata))


def _is_size(field: FieldInfo) -> bool:
    return "parse_size_bytes" in repr((field.annotation, field.metadata))


def _in_units(number: int, units: dict[str, int]) -> str:
    """Return the number in the largest unit of which it is a multiple."""
    if number == 0:
        return "0"
    return next(f"{number // size}{unit}" for unit, size in units.items() if number % size == 0)


def choices_of(annotation: Any) -> list[str]:
    """Return the values of a `Literal` anywhere in the annotation of a single value."""
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
