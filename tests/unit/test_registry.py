"""Task types: what a handler's signature means, and what a payload must be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel, Field
from typing_extensions import TypedDict  # Pydantic takes typing's own from Python 3.12 on

from celeriac.errors import InvalidSubmissionError, SettingsError
from celeriac.handlers.context import Context
from celeriac.settings import Settings
from celeriac.tasks.registry import Registry, TaskType, load, registry, task
from celeriac.tasks.retry import RetryPolicy


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

    found = {t.name: (t.payload_parameter, t.context_parameter, t.is_async) for t in registry}
    assert found == {
        "a": ("what", "ctx_of_mine", False),
        "b": (None, "context", True),
        "c": ("payload", None, False),
        "d": (None, None, False),
        "e": ("payload", "ctx", False),
    }


def test_a_third_parameter_needs_a_default() -> None:
    @task("fine")
    def fine(payload: Point, ctx: Context, rate: int = 3) -> None: ...

    with pytest.raises(SettingsError, match="'rate' is a third"):

        @task("not_fine")
        def not_fine(payload: Point, ctx: Context, rate: int) -> None: ...


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
    with pytest.raises(SettingsError, match="imports: cannot import 'no_such_module_here'"):
        load(["no_such_module_here"])
