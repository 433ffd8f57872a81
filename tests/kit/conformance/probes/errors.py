"""What a task raises, as its caller gets it."""

from __future__ import annotations

from typing import Any

from tests.kit.conformance.probing import WAIT, probe, raised
from tests.kit.conformance.project import states as s
from tests.kit.conformance.project import tasks as t


def raising(what: str) -> Any:
    """Return what `get` raises, the state, and the last line of the traceback."""
    result = s.raises.delay(what)
    found = raised(lambda: result.get(timeout=WAIT))
    lines = (result.traceback or "").rstrip().splitlines()
    return [found, result.state, len(lines) > 2, [line[:200] for line in lines[-1:]]]


@probe
def an_exception_of_the_project() -> Any:
    return raising("own")


@probe
def an_exception_without_a_text() -> Any:
    return raising("own without text")


@probe
def a_nested_exception_class() -> Any:
    return raising("nested")


@probe
def an_exception_with_several_arguments() -> Any:
    return raising("several")


@probe
def an_exception_that_cannot_be_made_again() -> Any:
    return raising("stubborn")


@probe
def an_exception_with_an_argument_that_cannot_be_written() -> Any:
    return raising("unwritable")


@probe
def an_exception_with_typed_arguments() -> Any:
    return raising("typed")


@probe
def an_exception_class_in_a_function() -> Any:
    return raising("local")


@probe
def a_key_error() -> Any:
    return raising("key")


@probe
def an_os_error() -> Any:
    return raising("os")


@probe
def a_unicode_decode_error() -> Any:
    return raising("decode")


@probe
def an_assertion_error_without_a_text() -> Any:
    return raising("assert")


@probe
def a_timeout_error() -> Any:
    return raising("timeout")


@probe
def a_stop_iteration() -> Any:
    return raising("stop")


@probe
def a_system_exit() -> Any:
    return raising("exit")


@probe
def an_exception_group() -> Any:
    return raising("group")


@probe
def an_exception_with_an_emoji() -> Any:
    return raising("unicode")


@probe
def an_exception_with_a_long_text() -> Any:
    return raising("long")


@probe
def a_max_retries_error_raised_by_hand() -> Any:
    return raising("max retries")


@probe
def a_base_exception() -> Any:
    return raising("base")


@probe
def an_exception_with_a_cause() -> Any:
    result = s.raises_from.delay()
    found = raised(lambda: result.get(timeout=WAIT))
    return [found, "KeyError: 'first'" in result.traceback, "direct cause" in result.traceback]


@probe
def a_value_that_cannot_be_written() -> Any:
    result = t.gives.delay("object")
    return [type(raised(lambda: result.get(timeout=WAIT))).__name__, result.state]


@probe
def an_exception_in_the_caller_is_not_the_tasks() -> Any:
    result = t.failing.delay()
    found = raised(lambda: result.get(timeout=WAIT))
    return [found, raised(lambda: result.get(timeout=WAIT)), found is not raised(lambda: result.get(timeout=WAIT))]
