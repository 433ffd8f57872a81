"""Only the service of tasks builds submissions, and only a type's hooks know what is special about the type."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from celeriac.tasks.registry import registry
from celeriac.tasks.types import bulk, file_process, grpc_task, remote

REPOSITORY = Path(__file__).parents[2]
#: The constants and the texts that are names of built-in types.
NAMES = {"REMOTE", "FILE_PROCESS", "GRPC_TASK", "BULK", "REMOTE_TASK"}
TEXTS = {task_type.name for task_type in (bulk.BULK, file_process.FILE_PROCESS, grpc_task.GRPC_TASK)} | {remote.REMOTE}


def modules(*folders: str) -> Iterator[tuple[str, ast.Module]]:
    for folder in folders:
        for path in sorted((REPOSITORY / folder).rglob("*.py")):
            yield str(path.relative_to(REPOSITORY)), ast.parse(path.read_text())


def test_submissions_are_built_in_one_module() -> None:
    found = {
        path
        for path, module in modules("platform/celeriac", "api/celeriac_api", "tasks/celeriac_tasks")
        if _imports_submission(module)
        for node in ast.walk(module)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Submission"
    }
    assert found == {"platform/celeriac/tasks/submission.py"}


def _imports_submission(module: ast.Module) -> bool:
    return any(
        isinstance(node, ast.ImportFrom)
        and node.module == "celeriac.model"
        and any(alias.name == "Submission" for alias in node.names)
        for node in ast.walk(module)
    )


def compares_a_type(node: ast.Compare) -> bool:
    sides = [node.left, *node.comparators]
    return any(_names_a_type(side) for side in sides) and any(_is_a_type(side) for side in sides)


def _names_a_type(side: ast.expr) -> bool:
    match side:
        case ast.Constant(value=str(text)):
            return text in TEXTS
        case ast.Name(id=name) | ast.Attribute(value=ast.Name(id=name), attr="name"):
            return name in NAMES
        case ast.Tuple(elts=several) | ast.Set(elts=several) | ast.List(elts=several):
            return any(_names_a_type(one) for one in several)
    return False


def _is_a_type(side: ast.expr) -> bool:
    match side:
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name.rstrip("_").endswith(("type", "name")) and not _names_a_type(side)
        case ast.Subscript(slice=ast.Constant(value=str(key))):
            return key.endswith("type")
        case ast.Call(func=ast.Attribute(attr="get"), args=[ast.Constant(value=str(key)), *_]):
            return key.endswith("type")
    return False


def test_no_front_door_asks_for_the_name_of_a_type() -> None:
    doors = (
        "platform/celeriac/cli",
        "platform/celeriac/schedules",
        "platform/celeriac/files",
        "platform/celeriac/tasks",
        "api/celeriac_api",
        "tasks/celeriac_tasks",
    )
    found = [
        f"{path}:{node.lineno}: {ast.unparse(node)}"
        for path, module in modules(*doors)
        for node in ast.walk(module)
        if isinstance(node, ast.Compare) and compares_a_type(node)
    ]
    assert found == [], "give the type a hook instead: see TypeHooks in celeriac/tasks/registry.py"


@pytest.mark.parametrize(
    ("code", "offends"),
    [
        ("task.type == FILE_PROCESS.name", True),
        ("request.type != 'remote'", True),
        ("run['type'] == REMOTE", True),
        ("document.get('type') in ('remote', 'grpc_task')", True),
        ("task_type == 'celeriac.bulk'", True),
        ("task.type == wanted", False),
        ("worker.kind == 'remote'", False),
        ("delivery == Delivery.REMOTE", False),
    ],
)
def test_offenders_are_recognised(code: str, offends: bool) -> None:
    node = ast.parse(code, mode="eval").body
    assert isinstance(node, ast.Compare)
    assert compares_a_type(node) is offends


def test_hooks_of_an_unknown_type_do_nothing_special() -> None:
    hooks = registry.hooks_of("of-nobody")
    assert (hooks.intake, hooks.delivery, hooks.bulk_by_name_only) == ("", None, False)
    assert hooks.content_payload({"content": "x"}) == {"content": "x"}
