"""The keys that Python reads are the ones that Lua writes."""

from __future__ import annotations

import inspect
import re

import pytest

from celeriac.store import keys
from celeriac.store.counts import BUCKETS_S
from celeriac.store.server.scripts import SHARED as PARTS
from celeriac.store.server.scripts import shared_part

SHARED = "\n".join(map(shared_part, PARTS))


def test_fixed_keys_are_the_same_in_lua() -> None:
    table = SHARED.split("local key = {")[1].split("}")[0]
    in_lua = dict(re.findall(r"(\w+) = '([^']+)'", table))
    in_python = {name.lower(): value for name, value in vars(keys).items() if name.isupper() and name[0] != "_"}
    assert in_lua == in_python


def test_keys_made_of_an_id_are_the_same_in_lua() -> None:
    in_lua = dict(re.findall(r"function key\.(\w+)\(\w+\) return '([^']+)' \.\. \w+ end", SHARED))
    assert len(in_lua) == SHARED.count("function key.")
    assert {f"{prefix}ID": name for name, prefix in in_lua.items()} == {
        getattr(keys, name)("ID"): name for name in in_lua
    }


def test_keys_of_different_things_never_meet() -> None:
    made = [make("x") for make in (keys.task, keys.task_events, keys.live, keys.waiting, keys.running, keys.group)]
    made += [keys.worker("x"), keys.idempotency("x", "x"), keys.EVENTS, keys.GROUPS, keys.WORKERS]
    assert len(set(made)) == len(made)
    assert keys.idempotency("a:b", "c") != keys.idempotency("a", "b:c")
    assert keys.idempotency("", "1:a:b") != keys.idempotency("a", "b")


@pytest.mark.parametrize("key", [keys.LEASES, keys.EXTERNAL, keys.task("x"), keys.worker("x"), "unacked_index"])
def test_no_group_may_have_the_name_of_a_key(key: str) -> None:
    assert keys.reserved(key)


@pytest.mark.parametrize("group", ["default", "celery", "tasks", "video:hd", "celeriac"])
def test_ordinary_group_names_are_free(group: str) -> None:
    assert not keys.reserved(group)


def test_durations_are_counted_in_the_buckets_that_are_read() -> None:
    in_lua = SHARED.split("local BUCKETS_MS = {")[1].split("}")[0]
    assert [int(ms) for ms in in_lua.split(",")] == [round(s * 1000) for s in BUCKETS_S]


#: Each key that is made of a name, and what bounds the number of such keys. A new one needs a line here.
BOUNDS = {
    "task": "the limits of waiting and scheduled tasks; the retention of ended ones",
    "task_events": "as the record",
    "log": "as the record",
    "checkpoint": "its own time",
    "confirmed": "a channel",
    "live": "a channel", "live_log": "a channel", "remote_wake": "a channel", "replies": "a channel",
    "waiting": "tasks", "running": "tasks", "remote": "tasks", "remote_parked": "tasks",
    "permits": "limits.max_rules", "parked": "limits.max_rules", "out": "limits.max_rules",
    "queued": "limits.max_rules", "arrivals": "limits.max_rules", "holders": "limits.max_rules",
    "turns": "limits.max_rules", "rates": "limits.max_rules",
    "group": "max_groups and max_user_groups, then group_retention",
    "worker": "it expires; dispatch.max_workers",
    "gateways": "it expires", "granted": "it expires", "nudge": "it expires", "code": "it expires",
    "feed": "it expires", "active": "tasks", "recent": "it expires",
    "idempotency": "it expires",
    "open_conditions": "as the record", "dependants": "as the record",
    "workflow": "as its nodes", "workflow_nodes": "workflows.max_nodes", "workflow_states": "as its nodes",
    "workflow_events": "as its nodes", "workflow_plan": "max_scheduled", "workflow_orders": "as its nodes",
    "live_workflow": "a channel", "workflow_groups": "as its nodes",
    "once": "tasks that have not ended; with a duration, it expires", "debounce": "tasks", "answered": "it expires",
    "steps": "as the record", "signals": "as the record", "waits_of": "tasks",
    "api_keys": "one key", "link_secret": "one key", "audit": "one key, with access.audit_entries",
}  # fmt: skip


def test_the_number_of_keys_of_each_kind_is_bounded() -> None:
    builders = {
        name
        for name, made in vars(keys).items()
        if inspect.isfunction(made) and made.__module__ == keys.__name__ and made.__annotations__["return"] == "str"
    }
    assert builders == set(BOUNDS)
