"""`celeriac limits` on an installation and through an API, as a person reads it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from celeriac.access.principal import Scope
from celeriac.model import Submission
from celeriac.settings import Settings
from celeriac.store.audit import AuditLog
from celeriac.store.task_store import TaskStore
from tests.kit.api.http_serving import claim, serving
from tests.kit.command_line import celeriac
from tests.kit.tokens import token_of


async def test_limits_are_set_shown_and_deleted(store: TaskStore, valkey_url: str, tmp_path: Path) -> None:
    async def cli(*words: str) -> tuple[int, str, str]:
        return await celeriac(*words, cwd=tmp_path, REDIS_URL=valkey_url)

    assert (await cli("limits"))[1] == "there are no limits\n"
    words = (
        "--group",
        "mail",
        "--by",
        "key",
        "--max-running",
        "1",
        "--fair",
        "--max-waiting",
        "9",
        "--note",
        "as agreed",
    )
    assert (await cli("limits", "set", "all customers", *words))[1] == (
        "all customers is set for group mail, each key: 1 running, 9 waiting, fair;"
        " `celeriac limits delete 'all customers'` deletes it\n"
    )
    assert (await cli("groups", "limit", "mail", "--rate", "100/m"))[0] == 0
    for n, key in enumerate(("c7", "c7", "c7", "c8")):
        await store.submit(Submission(f"t{n}", "send-mail", group="mail", key=key))
    await claim(store, "t0")
    assert (await cli("limits", "list"))[1].splitlines() == [
        "NAME           COVERS      BY   LIMITS                                 WAITING  RUNNING  HELD BACK",
        "all customers  group mail  key  1 running, 9 waiting, fair: as agreed  3        1        2",
        "group:mail     group mail  all  100/m starting                         3        1        1",
    ]
    covers, since, *rest = (await cli("limits", "show", "all customers"))[1].splitlines()
    assert covers == "covers   group mail, each key: 1 running, 9 waiting, fair"
    assert since.startswith("since    ")
    assert rest == [
        "note     as agreed",
        "waiting  3, 2 of them held back",
        "running  1",
        "",
        "KEY  WAITING  RUNNING",
        "c7   2        1",
        "c8   1        0",
    ]
    shown = json.loads((await cli("limits", "show", "all customers", "--sort", "running", "--limit", "1", "--json"))[1])
    assert (shown["max_waiting"], shown["keys"]) == (9, [{"key": "c7", "waiting": 2, "running": 1}])
    assert (await cli("limits", "delete", "all customers"))[1] == "all customers is deleted\n"
    code, _, said = await cli("limits", "show", "all customers")
    assert (code, said) == (2, "celeriac: there is no limit 'all customers'; known are: group:mail\n")
    assert [(e["action"], e["target"]) for e in reversed(await AuditLog(store).page())] == [
        ("limit.set", "all customers"),
        ("group.limit", "mail"),
        ("limit.delete", "all customers"),
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--max-running", "1"], "group: give group, type or both: which tasks the rule covers"),
        (["--group", "mail"], "give at least one of max_running, rate, fair, ordered and max_waiting"),
        (["--group", "mail", "--rate", "10/x"], "rate: '10/x' is not a rate: write a number and a period"),
        (["--type", "x", "--by", "key", "--fair"], "fair: needs a group"),
        (["--group", "mail", "--ordered"], 'ordered: needs by: "key" or by: "user"'),
        (["--group", "mail", "--by", "customer"], "'customer' is not one of"),
    ],
)
async def test_what_cannot_be_is_said(valkey_url: str, tmp_path: Path, words: list[str], said: str) -> None:
    code, _, errors = await celeriac("limits", "set", "x", *words, cwd=tmp_path, REDIS_URL=valkey_url)
    assert code == 2
    assert said in errors


async def test_who_is_no_admin_sees_a_limit_without_its_keys(valkey_url: str, tmp_path: Path) -> None:
    settings = Settings.model_validate({"redis_url": valkey_url, "access": {"jwt_secret": "s" * 40}})
    tokens = {scope: token_of(settings, user_id="7", scopes=[scope], ttl_s=600) for scope in (Scope.READ, Scope.ADMIN)}
    async with serving(settings) as url:

        async def cli(scope: Scope, *words: str) -> tuple[int, str, str]:
            return await celeriac(*words, cwd=tmp_path, CELERIAC_URL=url, CELERIAC_TOKEN=tokens[scope])

        words = ("limits", "set", "x", "--group", "mail", "--by", "user", "--max-running", "1")
        assert (await cli(Scope.READ, *words))[0] == 2
        assert (await cli(Scope.ADMIN, *words))[0] == 0
        code, out, errors = await cli(Scope.READ, "limits", "show", "x")
        assert (code, errors) == (0, "celeriac: only an admin sees the keys\n")
        assert out.startswith("covers   group mail, each user: 1 running\n")
        assert json.loads((await cli(Scope.ADMIN, "limits", "show", "x", "--json"))[1])["keys"] == []
