"""JSON through a protobuf Struct and back."""

from __future__ import annotations

import math
from typing import Any

import pytest
from google.protobuf.struct_pb2 import Struct
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from celeriac.handlers.results import result_text
from celeriac.tasks.types.grpc_task import GrpcTaskPayload
from celeriac_proto.grpc_task.v1 import task_pb2
from celeriac_tasks.grpc_task.struct_json import MAX_EXACT_INTEGER, struct_from, struct_to, whole

TEXT = st.text(st.characters(codec="utf-8"))
SCALARS = (
    st.none() | st.booleans() | TEXT
    | st.integers(-MAX_EXACT_INTEGER, MAX_EXACT_INTEGER)
    | st.floats(allow_nan=False, allow_infinity=False)
)  # fmt: skip
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=12)


@given(st.dictionaries(TEXT, JSON))
def test_json_comes_back_equal(data: dict[str, Any]) -> None:
    wire = struct_from(data).SerializeToString()
    assert struct_to(Struct.FromString(wire)) == data


def test_whole_numbers_come_back_as_integers_and_nothing_else_does() -> None:
    back = struct_to(struct_from({"i": 5, "f": 5.0, "h": 5.5, "t": True, "z": -0.0, "e": 1e300}))
    assert {key: type(value) for key, value in back.items()} == {
        "i": int, "f": int, "h": float, "t": bool, "z": int, "e": float,
    }  # fmt: skip
    assert type(whole(float(2**54))) is float


def test_integers_beyond_a_double_s_precision_arrive_as_the_nearest_double() -> None:
    assert struct_to(struct_from({"n": 2**53 + 1}))["n"] == 2**53
    assert struct_to(struct_from({"n": 2**60}))["n"] == 2**60


def test_what_json_lacks_stays_and_is_refused_with_the_result() -> None:
    struct = Struct()
    for name, number in (("nan", math.nan), ("inf", math.inf)):
        struct.fields[name].number_value = number
    struct.fields["unset"].SetInParent()
    found = struct_to(struct)
    assert math.isnan(found["nan"])
    assert found["inf"] == math.inf
    assert found["unset"] is None
    failure = result_text(found, 1000)[1]
    assert failure is not None
    assert failure.code == "bad_result"
    assert "JSON has no such number: send null or a string" in failure.message


@pytest.mark.parametrize("bad", [{"a": 10**400}, {"a": object()}, {"a": "\ud800"}, {1: 2}])
def test_what_a_struct_lacks_is_a_value_error(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - protobuf's words
        struct_from(bad)


@given(st.integers(25, 40), st.booleans(), st.integers(0, 60))
def test_the_nesting_that_is_accepted_is_what_protobuf_can_read(objects: int, leaf: bool, arrays: int) -> None:
    value: Any = 1 if leaf else {}
    for _ in range(arrays):
        value = [value]
    for _ in range(objects):
        value = {"a": value}
    try:
        payload = GrpcTaskPayload(service="s", method="m", data=value)
    except ValidationError:
        return
    wire = task_pb2.ExecuteTaskRequest(payload=struct_from(payload.data)).SerializeToString()
    task_pb2.ExecuteTaskRequest.FromString(wire)
