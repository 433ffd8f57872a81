"""The API against its own OpenAPI document: generated requests, and each answer is one that the document describes."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from celeriac.access.principal import Scope
from celeriac.database.migrating import migrate
from celeriac.settings import ServerSettings
from tests.kit.api.access import SECRET, settings_of
from tests.kit.api.http_serving import serving
from tests.kit.command_line import REPOSITORY
from tests.kit.tokens import token_of

#: No server error, and no status, media type, header or body that the document does not describe.
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
    "response_schema_conformance"
)
HOOKS = REPOSITORY / "tests/kit/api/fuzzing_hooks.py"
#: Calls that wait for a remote worker answer 503 where there is none, by contract.
CALLS = r"^/api/openai|^/v1/chat"
#: Streams never end by themselves.
LEFT_OUT = rf"(/stream|/live)$|{CALLS}"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("who", ["nobody, authentication off", "an admin", "a user", "a stranger"])
async def test_answers_are_what_the_document_says(valkey_url: str, tmp_path: Path, who: str) -> None:
    # The values at the edges of each schema find the same for everybody who gets as far.
    phases = "examples,coverage,fuzzing" if who == "an admin" else "examples,fuzzing"
    arguments = ["--phases", phases, "--checks", CHECKS, "--exclude-path-regex", LEFT_OUT]
    await _fuzz(valkey_url, tmp_path, who, arguments)


@pytest.mark.timeout(600)
async def test_answers_without_a_remote_worker_are_what_the_document_says(valkey_url: str, tmp_path: Path) -> None:
    checks = CHECKS.partition(",")[2]
    arguments = ["--phases", "examples,fuzzing", "--checks", checks, "--include-path-regex", CALLS]
    await _fuzz(valkey_url, tmp_path, "a user", arguments)


async def _fuzz(valkey_url: str, folder: Path, who: str, arguments: list[str]) -> None:
    database = f"sqlite:///{folder / 'history.db'}"
    migrate(database)
    settings = settings_of(
        valkey_url,
        folder,
        jwt_secret=None if who.startswith("nobody") else SECRET,
        rate_limit=0,
        failure_limit=1_000_000,
    ).model_copy(
        # Nobody works here, so a request that waits would wait for as long as it may.
        update={"database_url": database, "server": ServerSettings(max_wait=0.2)}
    )
    scopes = list(Scope) if who == "an admin" else [Scope.SUBMIT, Scope.READ]
    shown = [
        "-H",
        f"Authorization: Bearer {token_of(settings, user_id='7', scopes=scopes)}",
    ]
    async with serving(settings) as url:
        document = folder / "openapi.json"
        document.write_bytes(await _read(f"{url}/openapi.json", shown[1].partition(": ")[2]))
        process = await asyncio.create_subprocess_exec(
            Path(sys.executable).with_name("schemathesis"), "run", str(document), "--url", url,
            *(shown if who in ("an admin", "a user") else []), *arguments,
            # What a stranger sends is not read.
            "--max-examples", "1" if who == "a stranger" else "5", "--seed", "1", "--request-timeout", "10",
            "--no-color",
            cwd=folder, env={**os.environ, "SCHEMATHESIS_HOOKS": str(HOOKS)},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        said, _ = await asyncio.wait_for(process.communicate(), 550)
    assert process.returncode == 0, said.decode()


async def _read(url: str, authorization: str) -> bytes:
    import httpx

    async with httpx.AsyncClient() as client:
        return (await client.get(url, headers={"Authorization": authorization})).raise_for_status().content
