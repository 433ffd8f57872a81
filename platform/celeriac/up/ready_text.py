"""The text that `celeriac up` prints when everything runs: the addresses, and a first task to paste."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from celeriac.installation.run_file import Installation
from celeriac.settings import GrpcServices, Settings

#: Types that also need a service, a file or a remote worker.
_BUILT_IN = frozenset({"grpc_task", "file_process", "remote", "wait", "sleep"})


def ready_text(
    installation: Installation,
    settings: Settings,
    *,
    store: str,
    types: Mapping[str, Mapping[str, Any]],
    command: str = "celeriac",
) -> str:
    """Return the text; `store` describes the store without its password, `types` are the announced task types.

    `command` is how `celeriac` is called here.
    """
    # Some shells read the brackets of an IPv6 address as a pattern.
    tasks, live = (shlex.quote(f"{installation.http}/api/v1/tasks{rest}") for rest in ("", "/ID/progress/stream"))
    body = shlex.quote(json.dumps(example_task(settings.grpc_services, types)))
    folder = (
        "" if settings.data_dir == Path.cwd() / ".celeriac" else f" --data-dir {shlex.quote(str(settings.data_dir))}"
    )
    # The shell into which it is pasted makes the token: none is printed here.
    bearer = f' -H "Authorization: Bearer $({command} token --user me{folder})"' if settings.access.on else ""
    login = f" (user celeriac, password in {settings.data_dir}/flower_password)" if settings.access.on else ""
    flower = f"\n  Flower      http://127.0.0.1:{settings.up.flower_port}{login}" if settings.up.flower else ""
    return f"""
Celeriac {installation.version} is ready.

  dashboard   {installation.http}/
  HTTP API    {installation.http}
  API docs    {installation.http}/docs
  gRPC        {installation.grpc.partition("://")[2]}{", with TLS" if settings.access.tls else ""}
  store       {store}
  history     {_without_login(installation.database)}
  data        {settings.data_dir}
  workers     {settings.up.workers}{flower}

Submit a task, then watch it (replace ID by the id in the answer):

  curl -sw '\\n' -X POST {tasks} -H 'Content-Type: application/json'{bearer} -d {body}
  {command} watch ID{folder}
  curl -N{bearer} {live}

Ctrl-C stops everything. The next start continues where this one stopped.
"""


def own_command() -> str:
    """Return how to call `celeriac`: by its name if the shell finds it, else by the path that it was started by."""
    if shutil.which("celeriac"):
        return "celeriac"
    started = Path(sys.argv[0])
    if started.name != "celeriac":
        return "python -m celeriac"
    return shlex.quote(os.path.relpath(started) if started.is_relative_to(Path.cwd()) else str(started))


def _without_login(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


def example_task(services: GrpcServices, types: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return a submission that works here: for the example executor, of a user's own type, or of `celeriac.demo`."""
    if services.enabled and "demo" in services.services:
        return {"type": "grpc_task", "payload": {"service": "demo", "method": "count", "data": {"seconds": 5}}}
    for name in sorted(types):
        if name not in _BUILT_IN and not name.startswith("celeriac."):
            return {"type": name, "payload": example_value(types[name].get("schema") or {})}
    return {"type": "celeriac.demo", "payload": {"seconds": 5}}


def example_value(schema: Mapping[str, Any]) -> Any:
    """Return a value that fits a simple JSON schema: its example or default, if it has one."""
    return _example(schema, schema, depth=0)


def _example(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> Any:
    if examples := schema.get("examples"):
        return examples[0]
    for key in ("default", "const"):
        if key in schema:
            return schema[key]
    if choices := schema.get("enum"):
        return choices[0]
    if (reference := schema.get("$ref")) and depth < 8:
        return _example(root.get("$defs", {}).get(reference.rpartition("/")[2], {}), root, depth + 1)
    if alternatives := schema.get("anyOf") or schema.get("oneOf"):
        return _example(alternatives[0], root, depth + 1)
    match schema.get("type"):
        case "string":
            return "text"
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return True
        case "array":
            return []
        case "object" | None:
            known = schema.get("properties", {})
            return {name: _example(known.get(name, {}), root, depth + 1) for name in schema.get("required", [])}
        case _:
            return None
