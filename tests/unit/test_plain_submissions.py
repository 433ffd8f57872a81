"""Plain submissions are built from what their type has in common, and are those that `build_submission` returns."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter

from celeriac import json_text
from celeriac.errors import CeleriacError
from celeriac.settings import Settings
from celeriac.store.submit_call import SubmissionKind, submit_arguments
from celeriac.store.task_store import TaskStore
from celeriac.tasks.key_source import PayloadPath
from celeriac.tasks.plain_submissions import PlainSubmissions
from celeriac.tasks.registry import Registry
from celeriac.tasks.request import read_request
from celeriac.tasks.retry import RetryPolicy
from celeriac.tasks.submission import build_submission, new_task_id
from celeriac.tasks.task_type import TaskType, TypeHooks


class Thumbnail(BaseModel):
    path: str
    width: int = 100


class Waiting(TypeHooks):
    def awaits(self, payload: Any) -> dict[str, Any] | None:
        return {"until": 1}


OBJECT: TypeAdapter[Any] = TypeAdapter(dict[str, Any])
REGISTRY = Registry(
    [
        TaskType("echo", OBJECT),
        TaskType("counts", TypeAdapter(dict[str, int]), group="media", timeout_s=0.5),
        TaskType(
            "thumbnail", TypeAdapter(Thumbnail), group="media", retry=RetryPolicy(max_retries=7), retention_s=60.0
        ),
        TaskType("keyed", OBJECT, key=PayloadPath(("customer",))),
        TaskType("waits", OBJECT, hooks=Waiting()),
    ]
)
SETTINGS = Settings.model_validate(
    {"max_body_bytes": 300, "groups": {"media": {"max_queue_length": 5, "processor": "external"}}}
)

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
NAMES = st.sampled_from(["path", "width", "customer", "a"])
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["path", "width", "customer", "$result"]) | st.text(max_size=3), inner, max_size=3
        )
    ),
    max_leaves=8,
)
PAYLOADS = st.dictionaries(NAMES, VALUES, max_size=3) | VALUES
DOCUMENTS = st.fixed_dictionaries(
    {"type": st.sampled_from(["echo", "counts", "thumbnail", "keyed", "waits", "unknown"]) | SCALARS},
    optional={"payload": PAYLOADS, "priority": st.just(3), "queue": st.just("g"), "odd": st.just(1)},
)


def plain_submissions() -> PlainSubmissions:
    return PlainSubmissions(cast(TaskStore, None), SETTINGS)  # building does not ask the store


@given(DOCUMENTS)
def test_a_plain_submission_is_what_the_usual_way_makes_of_it(document: Mapping[str, Any]) -> None:
    try:
        read = json_text.read(json_text.write(document))
    except CeleriacError:
        return
    plain = plain_submissions().build(read, REGISTRY)
    try:
        usual = build_submission(read_request(read), SETTINGS, REGISTRY)
    except CeleriacError:
        assert plain is None, "only the usual way refuses"
        return
    if plain is not None:
        assert replace(plain.of.submission, task_id="", payload=plain.payload) == replace(usual, task_id="")
        assert (usual.group, usual.type, usual.delivery) == plain.of.place
        _, payload, _, kind = submit_arguments(usual, SETTINGS.queues, "n")
        assert (plain.payload, plain.kind) == (payload, kind)
        with_key = build_submission(read_request(read), SETTINGS, REGISTRY, idempotency_key='k"1')
        keyed = plain_submissions().build(read, REGISTRY, 'k"1')
        assert keyed is not None
        assert keyed.kind == submit_arguments(with_key, SETTINGS.queues, "n")[3]
        assert plain_submissions().build(read, REGISTRY, "a key") is None, "it cannot be one"


@pytest.mark.parametrize(
    ("name", "payload", "is_plain"),
    [
        ("echo", {"a": [1, None]}, True),
        ("counts", {"a": 1}, True),
        ("thumbnail", {"path": "a"}, True),
        ("counts", {"a": "x"}, False),
        ("thumbnail", {}, False),
        ("echo", {"$result": "x"}, False),
        ("echo", {"a": "x" * 300}, False),
        ("keyed", {}, False),
        ("waits", {}, False),
        ("unknown", {}, False),
    ],
)
def test_what_a_type_decides_by_the_payload_goes_the_usual_way(
    name: str, payload: Mapping[str, Any], is_plain: bool
) -> None:
    plain = plain_submissions().build({"type": name, "payload": payload}, REGISTRY)
    assert (plain is not None) is is_plain


def test_a_type_that_is_registered_anew_counts_at_once() -> None:
    types, plain = Registry([TaskType("echo", OBJECT)]), plain_submissions()
    document = {"type": "echo", "payload": {}}
    before = plain.build(document, types)
    types.add(TaskType("echo", OBJECT, group="other"))
    after = plain.build(document, types)
    assert before is not None
    assert after is not None
    assert (before.of.submission.group, after.of.submission.group) == ("default", "other")


def test_half_a_surrogate_pair_in_a_kind_does_not_fail_it() -> None:
    submission = replace(build_submission(read_request({"type": "echo"}), SETTINGS, REGISTRY), user_id="a\ud800")
    assert json_text.read(SubmissionKind(submission, SETTINGS.queues).text)[9] == "a?"


def test_ids_are_random_and_a_child_process_makes_others() -> None:
    ids = {new_task_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(UUID(one).version == 4 and str(UUID(one)) == one for one in ids)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, "".join(new_task_id() for _ in range(100)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    theirs = {text[at : at + 36] for at in range(0, len(text), 36)}
    assert len(theirs) == 100
    assert theirs.isdisjoint(new_task_id() for _ in range(100))
