"""What a shell completes, asked as bash asks it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from celeriac.model import Submission
from celeriac.store.task_store import TaskStore
from tests.kit.cli_world import DONE, FRESH, ORDER, world
from tests.kit.command_line import celeriac
from tests.kit.waiting import eventually

NOTHING = (0, [], "")


async def complete(folder: Path, line: str, **environ: str) -> tuple[int, list[str], str]:
    """Return the exit code, what completes the last word of a line, and what was printed beside it."""
    words = line.split(" ")
    code, out, err = await celeriac(
        cwd=folder,
        _CELERIAC_COMPLETE="complete_bash",
        COMP_WORDS=line,
        COMP_CWORD=str(len(words) - 1),
        XDG_CONFIG_HOME=str(folder),
        **environ,
    )
    # Typer writes an empty line if nothing completes a word; shells drop it.
    return code, [line for line in out.splitlines() if line], err


async def test_commands_and_options_are_completed_wherever_it_runs(tmp_path: Path) -> None:
    assert await complete(tmp_path, "celeriac st") == (0, ["status", "stats"], "")
    assert await complete(tmp_path, "celeriac groups res") == (0, ["resume"], "")
    assert await complete(tmp_path, "celeriac list --created-a") == (0, ["--created-after"], "")
    assert await complete(tmp_path, "celeriac list --status f") == (0, ["failed"], "")


@pytest.mark.parametrize(
    "line",
    [
        "celeriac status 5",
        "celeriac submit sh",
        "celeriac submit shout --after 5",
        "celeriac groups pause l",
        "celeriac list --type sh",
        "celeriac definitions show 5",
        "celeriac keys revoke 5",
        "celeriac workflows show 5",
        "celeriac status --profile gone 5",
        "celeriac status --url nonsense 5",
        "celeriac status --url http://127.0.0.1:1 5",
        "celeriac status --config gone.yaml 5",
        "celeriac list --profile x",
    ],
)
async def test_where_nothing_runs_nothing_is_completed_and_nothing_is_said(tmp_path: Path, line: str) -> None:
    assert await complete(tmp_path, line) == NOTHING


async def test_a_server_that_does_not_answer_is_not_waited_for(tmp_path: Path) -> None:
    """The address is reserved for documentation: nothing answers there."""
    assert await complete(tmp_path, "celeriac status --url http://192.0.2.1 5") == NOTHING


async def test_names_and_ids_are_those_of_the_platform_either_way(
    store: TaskStore, valkey_url: str, tmp_path: Path
) -> None:
    async with world(store, valkey_url, tmp_path) as running:
        _, definition, _ = await running.directly("definitions", "create", "n", "--content", "x", "--cron", "0 3 * * *")
        key = (await running.directly("keys", "create", "k", "--scope", "admin"))[1].split("_")[1]
        await store.submit(Submission("55555555-0000-4000-8000-000000000000", "shout", group="loud"))
        over_http = {"CELERIAC_URL": running.url, "CELERIAC_TOKEN": running.token, "CELERIAC_DATA_DIR": "nothing"}
        for environ in (running.direct_environ, over_http):

            async def asked(line: str, environ: dict[str, str] = environ) -> list[str]:
                code, found, err = await complete(tmp_path, line, **environ)
                assert (code, err) == (0, "")
                return found

            async def completed(line: str, asked: Callable[[str], Awaitable[list[str]]] = asked) -> list[str]:
                # A shell does not wait for long: on a busy machine an answer may come too late, and nothing is said.
                found: list[str] = await eventually(lambda: asked(line), because=f"{line!r} is completed in time")
                return found

            # The one with the latest event comes first.
            latest = ["55555555-0000-4000-8000-000000000000", DONE]
            assert await completed("celeriac status 55") == latest
            assert await completed("celeriac dead show 5555") == latest
            assert await completed("celeriac cancel 444") == [FRESH]
            assert ORDER in await completed("celeriac watch ")
            assert await completed("celeriac submit sh") == ["shout"]
            assert await completed("celeriac list --type sh") == ["shout"]
            assert await completed("celeriac groups pause l") == ["loud"]
            assert await completed("celeriac submit shout --queue l") == ["loud"]
            assert await completed(f"celeriac definitions show {definition[:2]}") == [definition.strip()]
            assert await completed(f"celeriac keys revoke {key[:3]}") == [key]


async def test_the_script_for_a_shell_is_shown(tmp_path: Path) -> None:
    # Typer asks for the shell by name if it is told not to look which one runs.
    told = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    code, out, err = await celeriac("--show-completion", "bash", cwd=tmp_path, **told)
    assert (code, err) == (0, "")
    assert "_CELERIAC_COMPLETE=complete_bash" in out
