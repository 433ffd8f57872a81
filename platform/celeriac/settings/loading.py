"""Read the settings. Nothing else reads the environment or the YAML file."""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from celeriac import json_text
from celeriac.errors import SettingsError
from celeriac.settings.environment import refuse_foreign_bytes, without_service_variables
from celeriac.settings.fields import is_text, section_of
from celeriac.settings.model import Settings
from celeriac.violations import nearest

#: Environment variables without our prefix, which other programs know too, and the setting that each one sets.
WELL_KNOWN: dict[str, tuple[str, ...]] = {
    "REDIS_URL": ("redis_url",),
    "DATABASE_URL": ("database_url",),
    "BROKER_URL": ("broker_url",),
    "GRPC_SERVICES": ("grpc_services",),
    "TASK_GRPC_PORT": ("grpc_port",),
    "MAX_BODY_BYTES": ("max_body_bytes",),
    "MAX_UPLOAD_BYTES": ("files", "max_upload_bytes"),
    "LOCAL_STORAGE_PATH": ("files", "storage_path"),
    "STORAGE_URL": ("files", "storage_url"),
    "ALLOWED_FILE_ROOTS": ("files", "allowed_roots"),
    "JWT_SECRET": ("access", "jwt_secret"),
    "JWKS_URL": ("access", "jwks"),
    "FFMPEG_BINARY": ("files", "processing", "ffmpeg"),
    "TASK_TIMEOUT_MS": ("dispatch", "task_timeout_ms"),
    "MIN_TASK_TIMEOUT_MS": ("dispatch", "min_task_timeout_ms"),
    "MAX_TASK_TIMEOUT_MS": ("dispatch", "max_task_timeout_ms"),
    "MAX_QUEUE_LENGTH": ("dispatch", "max_queue_length"),
    "TASK_RESULT_TTL_MS": ("dispatch", "task_result_ttl_ms"),
    "DISPATCH_READY_ON_CONNECT": ("dispatch", "ready_on_connect"),
}

#: Variables that hold paths or secrets. Their text is never read as YAML.
_PLAIN_TEXTS = {
    "JWT_SECRET",
    "CELERIAC_ACCESS__JWT_SECRET",
    "JWKS_URL",
    "LOCAL_STORAGE_PATH",
    "ALLOWED_FILE_ROOTS",
    "FFMPEG_BINARY",
    # Braces are a map in YAML.
    "CELERIAC_KEY_PREFIX",
}

_QUOTED_TEXT = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'[^']*'")

#: Pydantic's error types for a value where a section is expected.
_NOT_A_MAPPING = {"model_type", "dict_type"}

#: Pydantic's error types for values that an error may quote: no secret is a number, a boolean or one of a few words.
_QUOTED = {
    *("greater_than", "greater_than_equal", "less_than", "less_than_equal", "finite_number"),
    *("int_parsing", "int_from_float", "float_parsing", "bool_parsing", "literal_error"),
}

#: Variables with our prefix that are not settings: they tell where the settings are, where clients find the API, or
#: that Celery's command line is to adopt its app.
_NOT_SETTINGS = {"CELERIAC_ADOPT", "CELERIAC_CONFIG", "CELERIAC_URL", "CELERIAC_TOKEN", "CELERIAC_API_KEY"}


def load_settings(
    config: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """Return the settings; raises `SettingsError`, which names the key and what to do.

    `config` is a YAML or JSON file. Without it, `CELERIAC_CONFIG` names the file, else `celeriac.yaml` in the current
    folder is read if it exists. `overrides` take precedence over everything; those that are None are ignored.
    """
    env = _environment(environ)
    values: dict[str, Any] = {}
    path = config_path(config, env)
    if path is not None:
        _merge(values, _read_file(path))
    _merge(values, _read_environment(env))
    _merge(values, {key: value for key, value in (overrides or {}).items() if value is not None})
    if problem := next(_unknown_keys(values, Settings), None):
        raise SettingsError(problem)
    try:
        return Settings.model_validate(values)
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise SettingsError(f"{where or 'settings'}: {_plain_text(first)}") from exc


def _plain_text(error: ErrorDetails) -> str:
    """Return one of Pydantic's findings in plain words, with the wrong value if that cannot be a secret."""
    if error["type"] in _NOT_A_MAPPING:
        return "must be a mapping of settings"
    text = error["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    if error["type"] not in _QUOTED:
        return text
    return f"{text.partition(', ')[0]}, not {str(error['input'])[:100]!r}"


@dataclass(frozen=True, slots=True)
class ClientEnvironment:
    """What a client takes from `CELERIAC_URL`, `CELERIAC_TOKEN` (else `CELERIAC_API_KEY`) and `CELERIAC_DATA_DIR`."""

    url: str | None
    token: str | None
    data_dir: Path


def client_environment(environ: Mapping[str, str] | None = None) -> ClientEnvironment:
    """Return what a client takes from the environment. Unlike `load_settings` it reads no file and never fails."""
    env = _environment(environ)
    return ClientEnvironment(
        url=env.get("CELERIAC_URL") or None,
        token=env.get("CELERIAC_TOKEN") or env.get("CELERIAC_API_KEY") or None,
        data_dir=Path(env.get("CELERIAC_DATA_DIR") or ".celeriac"),
    )


def config_path(config: Path | None = None, environ: Mapping[str, str] | None = None) -> Path | None:
    """Return the configuration file in use, or None; raises `SettingsError` if a named file does not exist."""
    env = _environment(environ)
    named = config or (Path(env["CELERIAC_CONFIG"]) if env.get("CELERIAC_CONFIG") else None)
    if named is not None:
        refuse_foreign_bytes("the name of the configuration file (--config, CELERIAC_CONFIG)", str(named))
        if not named.is_file():
            problem = f"{named} is not a file" if named.exists() else f"there is no configuration file {named}"
            raise SettingsError(f"{problem}: correct --config or CELERIAC_CONFIG")
        return named
    default = Path("celeriac.yaml")
    return default if default.is_file() else None


def configuration_files(environ: Mapping[str, str] | None = None) -> list[Path]:
    """Return the files that the settings come from: the configuration file, and those named by `NAME_FILE`."""
    env = _environment(environ)
    named = [Path(path) for name in WELL_KNOWN if (path := env.get(f"{name}_FILE"))]
    config = config_path(environ=env)
    return named if config is None else [config, *named]


def _environment(environ: Mapping[str, str] | None) -> dict[str, str]:
    return without_service_variables(os.environ if environ is None else environ)


def _parse(text: str) -> Any:
    """Return the value of a JSON text, else of a YAML text.

    Raises `YAMLError`, `ValueError` (for a date that does not exist) or `RecursionError`. JSON is tried first because
    YAML 1.1 reads some of it otherwise: tabs between values are errors, `1e3` is a text, and an escaped character
    beyond the first plane becomes two surrogates.
    """
    if text.lstrip()[:1] in ("{", "[", '"'):
        with suppress(ValueError):
            return json_text.read(text)
    return yaml.safe_load(text)


def _read_file(path: Path) -> dict[str, Any]:
    try:
        text = _text_of(path)
    except OSError as exc:
        raise SettingsError(f"{path} cannot be read: {exc.strerror}") from exc
    try:
        content = _parse(text)
    except (yaml.YAMLError, ValueError, RecursionError) as exc:
        raise SettingsError(f"{path} cannot be read as YAML or JSON: {exc}") from exc
    if content is None:
        return {}
    if not isinstance(content, dict):
        what = "a list" if isinstance(content, list) else "a single value"
        raise SettingsError(f"{path} must hold a mapping of settings, not {what}: write lines such as port: 8000")
    return content


def _text_of(path: Path) -> str:
    """Return the text of a file, with or without a byte order mark; raises `SettingsError` if it is not in UTF-8."""
    content = path.read_bytes()
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise SettingsError(f"{path} is written in UTF-16: save it in UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = content.count(b"\n", 0, exc.start) + 1
        raise SettingsError(f"{path} is not written in UTF-8 (line {line} has other bytes): save it in UTF-8") from exc


def _with_files(env: Mapping[str, str]) -> dict[str, str]:
    """Return the environment, with the content of the file `NAME_FILE` as `NAME` for each well-known name."""
    filled = dict(env)
    for name in WELL_KNOWN:
        path = env.get(f"{name}_FILE")
        if not path:
            continue
        if env.get(name):
            raise SettingsError(f"{name} and {name}_FILE are both set: unset one of them")
        try:
            filled[name] = _text_of(Path(path)).strip()
        except SettingsError as exc:
            raise SettingsError(f"{name}_FILE: {exc}") from exc
        except (OSError, ValueError) as exc:
            raise SettingsError(f"{name}_FILE: {path} cannot be read: {exc}") from exc
    return filled


def _read_environment(env: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    env = _with_files(env)
    if env.get("REDIS_ADDR"):
        values["redis_url"] = _redis_url(env)
    for name, path in WELL_KNOWN.items():
        if env.get(name):
            refuse_foreign_bytes(name, env[name])
            _put(values, path, _value(name, path, env[name]))
    for name, text in env.items():
        if name.startswith("CELERIAC_") and name not in _NOT_SETTINGS:
            refuse_foreign_bytes(name, text)
            path = tuple(part.lower() for part in name.removeprefix("CELERIAC_").split("__"))
            _put(values, path, _value(name, path, text))
    return values


def _value(name: str, path: tuple[str, ...], text: str) -> Any:
    """Return the value of a variable: as YAML, unless the setting is a text.

    YAML reads the host `::` as a mapping, the folder `2026-01-01` as a date and the group `no` as false. Quotes around
    a text do not belong to it, and `null` unsets, as in a file.
    """
    if name in _PLAIN_TEXTS or _is_secret(path):
        return text
    if is_text(Settings, path) and text != "null" and not _QUOTED_TEXT.fullmatch(text.strip()):
        return text
    return _read_text(name, text)


def _is_secret(path: tuple[str, ...]) -> bool:
    """Return whether the path leads to one value of a service's `metadata`, which is sent as it is written."""
    return path[:2] == ("grpc_services", "services") and path[3:4] == ("metadata",) and len(path) == 5


def redis_url_of_parts(environ: Mapping[str, str] | None = None) -> str:
    """Return the URL that `REDIS_ADDR`, `REDIS_PASSWORD` and `REDIS_DB` name; those not set have their defaults."""
    return _redis_url(_environment(environ))


def _redis_url(env: Mapping[str, str]) -> str:
    for name in ("REDIS_ADDR", "REDIS_PASSWORD", "REDIS_DB"):
        refuse_foreign_bytes(name, env.get(name, ""))
    password = env.get("REDIS_PASSWORD", "")
    login = f":{quote(password, safe='')}@" if password else ""
    place = env.get("REDIS_ADDR") or "localhost:6379"
    if place.count(":") > 1 and "[" not in place:
        place = f"[{place}]:6379"  # an IPv6 address without a port
    return f"redis://{login}{place}/{env.get('REDIS_DB') or 0}"


def _read_text(name: str, text: str) -> Any:
    try:
        return _parse(text) if text.strip() else text
    except yaml.YAMLError:
        return text
    except (ValueError, RecursionError) as exc:
        raise SettingsError(f"{name} cannot be read: {exc}") from exc


def _put(values: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for part in path[:-1]:
        level = values.setdefault(part, {})
        if not isinstance(level, dict):
            raise SettingsError(f"{'.'.join(path)} cannot be set: {part} is set to a value, not to a mapping")
        values = level
    if isinstance(value, dict) and isinstance(values.get(path[-1]), dict):
        _merge(values[path[-1]], value)
    else:
        values[path[-1]] = value


def _merge(into: dict[str, Any], values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = dict(value) if isinstance(value, Mapping) else value


def _unknown_keys(values: Mapping[str, Any], model: type[BaseModel], path: str = "") -> Iterator[str]:
    for key, value in values.items():
        field = model.model_fields.get(str(key))
        if field is None:
            near = nearest(str(key), model.model_fields)
            known = f"did you mean {path}{near}?" if near else f"known are: {', '.join(model.model_fields)}"
            yield f"there is no setting {path}{key}; {known}"
            continue
        section = section_of(field.annotation)
        if section is None or not isinstance(value, Mapping):
            continue
        child, keyed = section
        for name, inner in value.items() if keyed else (("", value),):
            if isinstance(inner, Mapping):
                prefix = f"{path}{key}.{name}." if keyed else f"{path}{key}."
                yield from _unknown_keys(inner, child, prefix)
