"""What kind of value a setting has, looked up by its path in the model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr


def section_of(annotation: Any) -> tuple[type[BaseModel], bool] | None:
    """Return the model below a field and whether the field maps names to it."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, False
    for argument in get_args(annotation):
        if (inner := section_of(argument)) is not None:
            return inner[0], inner[1] or getattr(annotation, "__origin__", None) is dict
    return None


def is_text(model: type[BaseModel], path: Sequence[str]) -> bool:
    """Return whether the setting at `path` is a text: a string, a path, a secret or one of a few words."""
    kinds: list[Any] = [model]
    for part in path:
        kinds = [below for kind in kinds for below in _below(kind, part)]
    return bool(kinds) and all(map(_is_text, kinds))


def _below(kind: Any, part: str) -> list[Any]:
    """Return the types of `part` of a section or a mapping; None does not count."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        field = kind.model_fields.get(part)
        return [] if field is None else _choices(field.annotation)
    return _choices(get_args(kind)[1]) if get_origin(kind) is dict else []


def _choices(annotation: Any) -> list[Any]:
    if get_origin(annotation) in (Union, UnionType):
        return [kind for kind in get_args(annotation) if kind is not NoneType]
    return [annotation]


def _is_text(kind: Any) -> bool:
    if get_origin(kind) is Literal:
        return all(isinstance(word, str) for word in get_args(kind))
    return kind in (str, Path, SecretStr)
