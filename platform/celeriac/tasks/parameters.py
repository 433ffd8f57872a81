"""What the parameters of a handler mean: its context, and the payload, as one value or with a field for each."""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, NotRequired, get_args, get_origin, get_type_hints, is_typeddict

from pydantic import BaseModel, ConfigDict, Field, PydanticUserError, TypeAdapter
from typing_extensions import TypedDict

from celeriac import json_text
from celeriac.errors import JsonError, SettingsError
from celeriac.handlers.context import BlockingContext, Context

_COLLECTING: Final = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


_ONE_PAYLOAD: Final = inspect.Signature([inspect.Parameter("payload", inspect.Parameter.POSITIONAL_OR_KEYWORD)])


@dataclasses.dataclass(frozen=True, slots=True)
class Parameters:
    """The parameters of a handler. Defaults are those of handlers that take `payload` and `ctx`."""

    #: The one that takes the whole payload, if there is one.
    payload: str | None = "payload"
    context: str | None = "ctx"
    #: Those that take a field of the payload each; the payload is a mapping then.
    fields: tuple[str, ...] = ()
    #: How it is called, without the context.
    signature: inspect.Signature = _ONE_PAYLOAD

    @property
    def take_payload(self) -> bool:
        """Whether the handler gets anything of the payload."""
        return self.payload is not None or bool(self.fields)

    def arguments(self, payload: Any, context: Any) -> dict[str, Any]:
        """Return the keyword arguments of a call with a validated payload."""
        found: dict[str, Any] = dict(payload) if self.fields else {}
        if self.payload is not None:
            found[self.payload] = payload
        if self.context is not None:
            found[self.context] = context
        return found

    def payload_of(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Return the payload that a call of type `name` without the context means; raises `TypeError` in words."""
        try:
            if unknown := next((given for given in kwargs if given not in self.signature.parameters), None):
                raise TypeError(f"got an unexpected keyword argument {unknown!r}")
            given = self.signature.bind(*args, **kwargs)
        except TypeError as exc:
            takes = f"it is called as {name}{self.signature}" if self.signature.parameters else "it takes no arguments"
            raise TypeError(f"{name}: {exc}; {takes}") from None
        if self.payload is None:
            return given.arguments
        given.apply_defaults()
        payload = given.arguments[self.payload]
        return {} if payload is None else payload

    def whole_payload(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Return the one argument of a call if it can stand for all fields of the payload; None otherwise."""
        if not self.fields or len(args) != 1 or kwargs:
            return None
        (one,) = args
        model = isinstance(one, BaseModel | Mapping) or (dataclasses.is_dataclass(one) and not isinstance(one, type))
        return one if model else None


def parameters_of(name: str, handler: Callable[..., Any]) -> tuple[Parameters, TypeAdapter[Any]]:
    """Return the parameters of the handler of task type `name`, and the type of its payload.

    A parameter annotated `Context` or `BlockingContext`, or named `ctx` without an annotation, is the context. A single
    other one that is a Pydantic model, a dataclass, a TypedDict or a mapping, or has no annotation, is the whole
    payload. Otherwise each is a field of the payload, which is optional if the parameter has a default. Raises
    `SettingsError`.
    """
    hints = get_type_hints(handler, include_extras=True)
    signature = inspect.signature(handler)
    context: str | None = None
    others: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        hint = hints.get(parameter.name)
        if hint in (Context, BlockingContext) or (hint is None and parameter.name == "ctx"):
            context = parameter.name
        elif parameter.kind in _COLLECTING:
            stars = "*" if parameter.kind is inspect.Parameter.VAR_POSITIONAL else "**"
            raise SettingsError(
                f"task type {name!r}: {stars}{parameter.name} cannot be a field of a payload: name each parameter, or"
                " take one dict"
            )
        elif parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
            raise SettingsError(
                f"task type {name!r}: {parameter.name!r} can only be given by position: remove the `/` after it, since"
                " the fields of a payload have names"
            )
        else:
            others.append(parameter)
    shown = [parameter.replace(annotation=hints.get(parameter.name, parameter.empty)) for parameter in others]
    signature = signature.replace(parameters=shown, return_annotation=inspect.Signature.empty)
    if not others:
        return Parameters(None, context, signature=signature), _adapter(name, dict[str, Any])
    hint = hints.get(others[0].name)
    if len(others) == 1 and (hint is None or _is_whole_payload(hint)):
        return Parameters(others[0].name, context, signature=signature), _adapter(
            name, dict[str, Any] if hint is None else hint
        )
    fields = tuple(parameter.name for parameter in others)
    return Parameters(None, context, fields, signature), _adapter(name, _mapping_of(name, others, hints))


def result_of(handler: Callable[..., Any]) -> TypeAdapter[Any] | None:
    """Return the type that a handler says that it returns; None if it does not say, or Pydantic does not know it."""
    hint = get_type_hints(handler, include_extras=True).get("return", Any)
    if hint is Any:
        return None
    try:
        return TypeAdapter(hint)
    except PydanticUserError:
        return None


def module_of(function: Callable[..., Any]) -> str:
    """Return the name of a function's module; for a program (`__main__`) the name under which others import it."""
    return module_name(function.__module__)


def module_name(name: str) -> str:
    """Return the name under which others import a module that may be the program itself (`__main__`)."""
    main = sys.modules.get("__main__")
    if name != "__main__" or main is None:
        return name
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return str(spec.name.removesuffix(".__main__"))
    file = getattr(main, "__file__", None)
    return name if file is None else Path(file).stem


def _is_whole_payload(hint: Any) -> bool:
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    kind = get_origin(hint) or hint
    if is_typeddict(kind) or dataclasses.is_dataclass(kind) or hint is Any:
        return True
    return isinstance(kind, type) and issubclass(kind, BaseModel | Mapping)


def _mapping_of(name: str, parameters: list[inspect.Parameter], hints: Mapping[str, Any]) -> Any:
    # A TypedDict, unlike a model, has no attributes that a parameter's name could hide.
    fields: dict[str, Any] = {}
    for parameter in parameters:
        hint = hints.get(parameter.name, Any)
        if parameter.default is inspect.Parameter.empty:
            fields[parameter.name] = hint
        else:
            # Python fills it in when the handler is called.
            fields[parameter.name] = NotRequired[Annotated[hint, Field(json_schema_extra=_shown(parameter.default))]]
    make: Any = TypedDict
    mapping = make(name, fields)
    mapping.__pydantic_config__ = ConfigDict(extra="forbid")
    return mapping


def _shown(default: Any) -> dict[str, Any]:
    """Return what the schema says of a default."""
    try:
        return {"default": json_text.read(json_text.write(default))}
    except JsonError:
        return {}


def _adapter(name: str, payload: Any) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(payload)
    except PydanticUserError as exc:
        raise SettingsError(f"task type {name!r}: {payload!r} cannot be a payload: {exc}") from exc
