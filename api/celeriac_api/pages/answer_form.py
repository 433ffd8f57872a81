"""The form for a signal's value: its fields, drawn from the JSON schema, and the value that its texts stand for.

Fields are named as in the schema, with dots into objects (`address.city`). A value that is not an object is the field
`value`. What has no field of its own here, such as a list of objects, is a text in JSON.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Final, Literal

from celeriac import json_text
from celeriac.errors import JsonError
from celeriac.signals.schemas import resolved
from celeriac_api.pages.texts import LANGUAGES, catalogue, text

#: The field of a value that is not an object.
WHOLE: Final = "value"
#: Objects in objects that get fields of their own; fields of one form; choices of one field.
_MOST_LEVELS: Final = 3
_MOST_FIELDS: Final = 100
_MOST_CHOICES: Final = 200
#: A single choice among so few is drawn as buttons.
_MOST_BUTTONS: Final = 4
_LONG_TEXT: Final = 200
_INPUT_TYPES: Final = {"date": "date", "time": "time", "email": "email"}

#: What a reader is told of how to fill in a field, as keys of the catalogue.
_HINTS: Final = {"anything": "answer.anything", "json": "answer.in_json", "lines": "answer.one_per_line"}

Kind = Literal["text", "long_text", "number", "choice", "choices", "lines", "json", "anything"]


@dataclass(frozen=True, slots=True)
class FormField:
    """One field of a form."""

    name: str
    kind: Kind
    label: str
    help: str = ""
    required: bool = True
    #: The values that can be chosen, by their texts.
    choices: tuple[tuple[str, Any], ...] = ()
    default: Any = None
    #: The schema of the value, or of a line.
    schema: Mapping[str, Any] | None = None


def fields_of(schema: Any) -> list[FormField]:
    """Return the fields of the form for a value of this schema; None or {} is any value."""
    whole = resolved(schema, schema)
    if not isinstance(whole, dict) or not whole:
        return [FormField(WHOLE, "anything", "")]
    if _is_object(whole):
        found = list(_fields_in(whole, schema, "", 0))
        if 0 < len(found) <= _MOST_FIELDS:
            return found
        if not whole.get("properties") and whole.get("additionalProperties") is False:
            return []
    return [_field(WHOLE, whole, schema, str(whole.get("title") or ""), required=True)]


def value_of(fields: Sequence[FormField], filled: Mapping[str, Sequence[str]], schema: Any) -> Any:
    """Return the value that a filled-in form stands for; `filled` has the texts of each field by name.

    What cannot be read as its field says is left as a text: the comparison with the schema tells what is wrong.
    """
    if len(fields) == 1 and fields[0].name == WHOLE and not _is_object_with(schema, WHOLE):
        return _value(fields[0], filled.get(WHOLE, ("",)))
    document: dict[str, Any] = {}
    for field in fields:
        texts = filled.get(field.name, ())
        if not field.required and not any(texts):
            continue
        if field.required and not texts and field.kind not in ("choices", "lines"):
            continue
        *path, last = field.name.split(".")
        inner = document
        for name in path:
            inner = inner.setdefault(name, {})
        inner[last] = _value(field, texts)
    return document


def form_html(
    fields: Sequence[FormField], filled: Mapping[str, Sequence[str]] | None = None, language: str = LANGUAGES[0]
) -> str:
    """Return the inside of the form, with the texts of an earlier try if there was one."""
    if len(fields) == 1 and fields[0].kind == "choice" and 0 < len(fields[0].choices) <= _MOST_BUTTONS:
        return _buttons(fields[0], language)
    return "".join(_drawn(one, None if filled is None else filled.get(one.name, ()), language) for one in fields) + (
        f"<button>{_ours(language, 'answer.send')}</button>"
    )


def _fields_in(schema: Mapping[str, Any], root: Any, prefix: str, level: int) -> Iterable[FormField]:
    properties = schema.get("properties")
    needed = schema.get("required") or []
    for name, one in (properties if isinstance(properties, dict) else {}).items():
        found, optional = _without_null(resolved(one, root), root)
        required = name in needed and not optional
        label = str(found.get("title") or name)
        if "." in name:
            # A dot means an object inside another one.
            yield FormField(prefix + name, "json", label, "", required)
        elif _is_object(found) and found.get("properties") and name in needed and level + 1 < _MOST_LEVELS:
            yield from _fields_in(found, root, f"{prefix}{name}.", level + 1)
        else:
            yield _field(prefix + name, found, root, label, required=required)


def _field(name: str, schema: Mapping[str, Any], root: Any, label: str, *, required: bool) -> FormField:
    schema, optional = _without_null(schema, root)
    required = required and not optional
    about, default = str(schema.get("description") or ""), schema.get("default")
    choices = _choices(schema)
    if choices:
        return FormField(name, "choice", label, about, required, choices, default, schema)
    match schema.get("type"):
        case "string":
            most = schema.get("maxLength")
            long = "format" not in schema and "pattern" not in schema and (not most or most > _LONG_TEXT)
            return FormField(name, "long_text" if long else "text", label, about, required, (), default, schema)
        case "integer" | "number":
            return FormField(name, "number", label, about, required, (), default, schema)
        case "array":
            item = resolved(schema.get("items", {}), root)
            if isinstance(item, dict) and "prefixItems" not in schema:
                if several := _choices(item):
                    return FormField(name, "choices", label, about, required, several, default, item)
                if item.get("type") in ("string", "integer", "number"):
                    return FormField(name, "lines", label, about, required, (), default, item)
    return FormField(name, "json", label, about, required, (), default, schema)


def _choices(schema: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    if schema.get("type") == "boolean":
        return (("true", True), ("false", False))
    options = [schema["const"]] if "const" in schema else schema.get("enum")
    if not isinstance(options, list) or not 0 < len(options) <= _MOST_CHOICES:
        return ()
    return tuple((one if isinstance(one, str) else json_text.encode(one).decode(), one) for one in options)


def _without_null(schema: Any, root: Any) -> tuple[Mapping[str, Any], bool]:
    """Return a schema without the option null, and whether it had that."""
    if not isinstance(schema, dict):
        return {}, False
    options = schema.get("anyOf") or schema.get("oneOf")
    if not isinstance(options, list):
        return schema, False
    found = [resolved(one, root) for one in options]
    left = [one for one in found if isinstance(one, dict) and one.get("type") != "null"]
    if len(left) == len(found) or len(left) != 1:
        return schema, len(left) < len(found)
    outer = {name: one for name, one in schema.items() if name not in ("anyOf", "oneOf")}
    return {**left[0], **outer}, True


def _is_object(schema: Any) -> bool:
    return isinstance(schema, dict) and (schema.get("type") == "object" or "properties" in schema)


def _is_object_with(schema: Any, name: str) -> bool:
    whole = resolved(schema, schema)
    return _is_object(whole) and name in (whole.get("properties") or {})


def _value(field: FormField, texts: Sequence[str]) -> Any:
    # Browsers send line breaks as CR LF.
    text = texts[0].replace("\r\n", "\n") if texts else ""
    match field.kind:
        case "choice":
            return dict(field.choices).get(text, text)
        case "choices":
            return [dict(field.choices).get(one, one) for one in texts]
        case "number":
            return _number(text)
        case "lines":
            lines = [line for line in (line.strip() for line in text.split("\n")) if line]
            numbers = field.schema is not None and field.schema.get("type") in ("integer", "number")
            return [_number(line) if numbers else line for line in lines]
        case "json" | "anything":
            try:
                return json_text.read(text)
            except JsonError:
                return text
    return text


def _number(text: str) -> Any:
    try:
        value = json_text.read(text.strip())
    except JsonError:
        return text
    return value if isinstance(value, int | float) and not isinstance(value, bool) else text


def _ours(language: str, key: str) -> str:
    return escape(str(catalogue(language)[key]))


def _word(language: str, choice: str, value: Any) -> str:
    """Return what a choice is called."""
    if not isinstance(value, bool):
        return escape(choice)
    return escape(text(language, "answer.yes") if value else text(language, "answer.no"))


def _label(language: str, field: FormField) -> str:
    return escape(field.label or text(language, "answer.answer"))


def _buttons(field: FormField, language: str) -> str:
    drawn = "".join(
        f'<button name="{escape(field.name)}" value="{escape(one)}">{_word(language, one, value)}</button>'
        for one, value in field.choices
    )
    legend = "" if field.name == WHOLE else f"<p>{_label(language, field)}</p>"
    return f'{legend}{_help(field, language)}<div class="buttons">{drawn}</div>'


def _drawn(field: FormField, filled: Sequence[str] | None, language: str) -> str:
    name = escape(field.name)
    needed = " required" if field.required else ""
    about = _help(field, language)
    told = f' aria-describedby="about-{name}"' if about else ""
    optional = "" if field.required else f" <small>{_ours(language, 'answer.optional')}</small>"
    label = f"{_label(language, field)}{optional}"
    if field.kind == "choices":
        chosen = filled if filled is not None else [_text(one) for one in field.default or ()]
        boxes = "".join(
            f'<label class="box"><input type="checkbox" name="{name}" value="{escape(one)}"'
            f"{' checked' if one in chosen else ''}> {escape(one)}</label>"
            for one, _ in field.choices
        )
        return f"<fieldset{told}><legend>{label}</legend>{boxes}</fieldset>{about}"
    given = (filled[0] if filled else "") if filled is not None else _text_of(field)
    start = f'<label for="field-{name}">{label}</label>'
    attributes = f'id="field-{name}" name="{name}"{told}'
    if field.kind == "choice":
        empty = "" if field.required and given else '<option value=""></option>'
        options = "".join(
            f'<option value="{escape(one)}"{" selected" if one == given else ""}>{_word(language, one, value)}</option>'
            for one, value in field.choices
        )
        return f"{start}<select {attributes}{needed}>{empty}{options}</select>{about}"
    if field.kind in ("text", "number"):
        # The value is checked by the server: a browser's check of numbers and patterns depends on its language.
        form = str((field.schema or {}).get("format"))
        kind = 'text" inputmode="decimal' if field.kind == "number" else _INPUT_TYPES.get(form, "text")
        return f'{start}<input type="{kind}" {attributes} value="{escape(given)}"{needed}>{about}'
    # An empty text is a valid one, unless the schema says otherwise.
    least = (field.schema or {}).get("minLength")
    needed = "" if field.kind in ("long_text", "lines") and not least else needed
    rows = 3 if field.kind == "long_text" else 5
    return f'{start}<textarea {attributes} rows="{rows}"{needed}>\n{escape(given)}</textarea>{about}'


def _help(field: FormField, language: str) -> str:
    hint = _HINTS.get(field.kind)
    parts = [escape(field.help)] if field.help else []
    about = " ".join([*parts, _ours(language, hint)] if hint else parts)
    return f'<p class="about" id="about-{escape(field.name)}">{about}</p>' if about else ""


def _text_of(field: FormField) -> str:
    if field.default is None:
        return ""
    if field.kind == "lines":
        return "\n".join(map(_text, field.default if isinstance(field.default, list) else []))
    return _text(field.default)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json_text.encode(value).decode()
