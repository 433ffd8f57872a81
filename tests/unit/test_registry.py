"""Task types: what a handler's signature means, and what a payload must be."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field
from typing_extensions import TypedDict  # Pydantic takes typing's own from Python 3.12 on

from celeriac.errors import InvalidSubmissionError, SettingsError
from celeriac.handlers.context import Context
from celeriac.settings import Settings
from celeriac.tasks.registry import Registry, load, registry, task
from celeriac.tasks.retry import RetryPolicy
from celeriac.tasks.task_type import TaskType
from celeriac.testing import run_task_async


class Size(BaseModel):
    """A size."""

    width: int = Field(gt=0)
    height: int = Field(gt=0)


class Thumbnail(BaseModel):
    """A thumbnail."""

    path: str
    sizes: list[Size]


@dataclass
class Point:
    """A point."""

    x: int


class Options(TypedDict):
    """Options."""

    fast: bool


@pytest.fixture(autouse=True)
def _own_types(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_types", {})


def test_payload_and_context_are_known_by_their_annotations() -> None:
    @task("a")
    def both(ctx_of_mine: Context, what: Thumbnail) -> None: ...

    @task("b")
    async def only_context(context: Context) -> None: ...

    @task("c")
    def only_payload(payload: dict[str, Any]) -> None: ...

    @task("d")
    def nothing() -> None: ...

    @task("e")
    def bare(payload, ctx): ...  # type: ignore[no-untyped-def]

    found = {t.name: (t.parameters.payload, t.parameters.context, t.is_async) for t in registry}
    assert found == {
        "a": ("what", "ctx_of_mine", False),
        "b": (None, "context", True),
        "c": ("payload", None, False),
        "d": (None, None, False),
        "e": ("payload", "ctx", False),
    }


def test_parameters_are_the_fields_of_the_payload() -> None:
    @task
    def report(ctx: Context, customer: int, pages: int = 10, tags: list[str] | None = None) -> None: ...

    assert report.name == "report"
    assert report.parameters.fields == ("customer", "pages", "tags")
    assert report.validate({"customer": "7"}) == {"customer": 7}
    assert report.validate({"customer": 7, "pages": 2, "tags": ["a"]}) == {"customer": 7, "pages": 2, "tags": ["a"]}
    schema = report.json_schema()
    assert (schema["required"], schema["additionalProperties"]) == (["customer"], False)
    assert schema["properties"]["pages"]["default"] == 10
    for payload, place in [({}, "payload.customer"), ({"customer": 1, "page": 2}, "payload.page"), ([1], "payload")]:
        with pytest.raises(InvalidSubmissionError) as refused:
            report.validate(payload)
        assert refused.value.violations[0].field == place


@pytest.mark.parametrize("hint", [int, str, list[int], int | None, Annotated[int, Field(gt=3)], dict[str, int] | None])
def test_a_single_parameter_of_another_kind_is_a_field_too(hint: Any) -> None:
    def handler(value): ...  # type: ignore[no-untyped-def]

    handler.__annotations__["value"] = hint
    assert task("single")(handler).parameters.fields == ("value",)


@pytest.mark.parametrize("hint", [Thumbnail, Point, Options, dict, dict[str, Any], Mapping[str, int], Any])
def test_a_single_parameter_that_is_a_mapping_is_the_whole_payload(hint: Any) -> None:
    def handler(value): ...  # type: ignore[no-untyped-def]

    handler.__annotations__["value"] = hint
    assert task("single")(handler).parameters.payload == "value"


def test_parameters_may_have_any_name() -> None:
    @task
    def odd(self: int, copy: str, model_fields: int, _hidden: int, json: bool = False) -> None: ...

    payload = {"self": 1, "copy": "c", "model_fields": 2, "_hidden": 3}
    assert odd.parameters.arguments(odd.validate(payload), None) == payload


def test_what_cannot_be_a_payload_says_what_to_write() -> None:
    def collects(a: int, *others: int) -> None: ...

    def collects_names(**options: int) -> None: ...

    def by_place(a: int, /, b: int) -> None: ...

    for handler, sentence in [
        (collects, "*others cannot be a field of a payload: name each parameter, or take one dict"),
        (collects_names, "**options cannot be a field"),
        (by_place, "'a' can only be given by position: remove the `/`"),
        (lambda: None, 'write @task("name")'),
    ]:
        with pytest.raises(SettingsError) as refused:
            task(handler)
        assert sentence in str(refused.value)


def test_a_decorator_may_be_written_in_four_ways() -> None:
    def noted() -> str:
        return "noted"

    for decorated in (task(noted), task()(noted), task("noted")(noted), task(name="noted", group="g")(noted)):
        assert (decorated.name, decorated()) == ("noted", "noted")
    with pytest.raises(SettingsError, match="is not a valid name"):
        task(3)  # type: ignore[call-overload]


async def test_a_handler_gets_its_parameters_and_its_own_defaults() -> None:
    @task
    async def report(ctx: Context, customer: int, pages: int = 10) -> list[int]:
        ctx.progress(50, "half")
        return [customer, pages]

    @task
    def plain(customer: int, pages: int = 10) -> list[int]:
        return [customer, pages]

    assert (await run_task_async(report, {"customer": 7})).result == [7, 10]
    assert (await run_task_async(plain, {"customer": 7, "pages": 2})).result == [7, 2]
    with pytest.raises(InvalidSubmissionError, match=r"payload\.customer"):
        await run_task_async(plain, {"customer": "x"})


def test_a_program_and_the_module_of_its_file_are_one(tmp_path: Path) -> None:
    module = tmp_path / "mytasks.py"
    module.write_text("""
from celeriac import task
from celeriac_tasks.celery import app

@task
def mine(n: int) -> int:
    return n

@app.task
def add(a, b):
    return a + b

if __name__ == "__main__":
    import mytasks
    print(add.name, mytasks.add.name)
""")
    for command in (["mytasks.py"], ["-m", "mytasks"]):
        found = subprocess.run(
            [sys.executable, *command], cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True
        )
        assert found.stdout.split() == ["mytasks.add", "mytasks.add"], found.stderr


def test_violations_name_each_field_by_its_path() -> None:
    @task("thumbnail")
    def thumbnail(payload: Thumbnail) -> None: ...

    with pytest.raises(InvalidSubmissionError) as caught:
        thumbnail.validate({"sizes": [{"width": 1, "height": 2}, {"width": 0}]})
    fields = [violation.field for violation in caught.value.violations]
    assert fields == ["payload.path", "payload.sizes.1.width", "payload.sizes.1.height"]
    assert "payload.path: is required" in str(caught.value)


@pytest.mark.parametrize(
    ("shape", "payload", "value"),
    [
        (Point, {"x": 1}, Point(1)),
        (Options, {"fast": True}, {"fast": True}),
        (dict[str, int], {"a": 1}, {"a": 1}),
        (Size, {"width": 1, "height": 2}, Size(width=1, height=2)),
    ],
)
def test_a_payload_may_be_anything_that_pydantic_reads_from_an_object(
    shape: Any, payload: dict[str, Any], value: Any
) -> None:
    def handler(payload: Any) -> None: ...

    handler.__annotations__["payload"] = shape
    assert task("t")(handler).validate(payload) == value


def test_a_shape_that_pydantic_cannot_read_is_refused_at_once() -> None:
    class Opaque: ...

    def handler(payload: Any) -> None: ...

    handler.__annotations__["payload"] = Opaque
    with pytest.raises(SettingsError, match="cannot be a payload"):
        task("opaque")(handler)


def test_two_types_of_one_name_are_refused_and_a_reload_is_not() -> None:
    def define(number: int) -> None:
        if number == 1:

            @task("same")
            def first() -> None: ...

        else:

            @task("same")
            def second() -> None: ...

    define(1)
    define(1)
    with pytest.raises(SettingsError, match="two task types are named 'same'"):
        define(2)
    assert len(registry) == 1


@pytest.mark.parametrize("name", ["", "-x", "with space", "ü", "a" * 201, "x\n"])
def test_a_name_of_odd_characters_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match="is not a valid name for a task type"):
        task(name)


def test_the_decorated_function_can_still_be_called() -> None:
    @task("double")
    def double(payload: dict[str, int]) -> int:
        return payload["n"] * 2

    assert double({"n": 4}) == 8
    with pytest.raises(TypeError, match="no handler in this process"):
        TaskType("elsewhere", double.payload)()


def test_the_decorator_sets_the_policy() -> None:
    @task("flaky", group="slow", max_retries=7, retry_delay_s=0.5, retry_backoff=3, retry_max_delay_s=9, timeout_s=4)
    def flaky() -> None:
        """Fail now and then."""

    assert (flaky.group, flaky.timeout_s, flaky.description) == ("slow", 4, "Fail now and then.")
    assert flaky.retry_policy({}, Settings()) == RetryPolicy(7, 0.5, 3, 9)


def test_the_schema_of_a_payload_is_json_schema() -> None:
    @task("thumbnail")
    def thumbnail(payload: Thumbnail) -> None: ...

    schema = thumbnail.json_schema()
    assert schema["required"] == ["path", "sizes"]
    assert schema["properties"]["sizes"]["items"] == {"$ref": "#/$defs/Size"}


def test_a_registry_lists_its_types_by_name() -> None:
    types = [TaskType(name, task("x")(lambda: None).payload) for name in ("b", "a")]
    own = Registry(types)
    assert [t.name for t in own] == ["a", "b"]
    assert "a" in own
    assert "c" not in own
    assert own.get("c") is None


def test_a_module_that_cannot_be_imported_is_named() -> None:
    with pytest.raises(SettingsError, match="imports: there is no module 'no_such_module_here'"):
        load(["no_such_module_here"])
