from __future__ import annotations

from typing import Any

import pytest

from celeriac.installation.run_file import Installation
from celeriac.settings import GrpcServices, Settings
from celeriac.up.ready_text import example_task, example_value, ready_text

DEMO = {"grpc_services": {"services": {"demo": {"address": "127.0.0.1:50061"}}}}
INSTALLATION = Installation(
    http="http://127.0.0.1:8000",
    grpc="grpc://127.0.0.1:50050",
    redis="redis://:s3cret@127.0.0.1:6390/0",
    database="sqlite:////d/celeriac.db",
    version="0.1.0",
    pid=1,
    started_at="",
)


def test_the_text_has_every_address_and_a_command_to_paste_but_no_password() -> None:
    text = ready_text(INSTALLATION, Settings.model_validate(DEMO), store="embedded", types={})
    for expected in (
        "ready",
        "http://127.0.0.1:8000/docs",
        "127.0.0.1:50050",
        """-d '{"type": "grpc_task", "payload": {"service": "demo", "method": "count", "data": {"seconds": 5}}}'""",
        "celeriac watch ID",
        "Ctrl-C",
    ):
        assert expected in text
    assert "s3cret" not in text


def test_with_authentication_the_commands_mint_their_token() -> None:
    settings = Settings.model_validate({**DEMO, "access": {"jwt_secret": "0123456789abcdef0123456789abcdef"}})
    text = ready_text(INSTALLATION, settings, store="embedded", types={})
    bearer = f'-H "Authorization: Bearer $(celeriac token --user me --data-dir {settings.data_dir})"'
    assert text.count(bearer) + text.count(bearer.replace(f" --data-dir {settings.data_dir}", "")) == 2
    assert "0123456789abcdef" not in text


def test_the_example_is_of_an_announced_type_where_there_is_no_demo_service() -> None:
    schema = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
    types = {"celeriac.bulk": {}, "file_process": {}, "grpc_task": {}, "shout": {"schema": schema}}
    assert example_task(GrpcServices(), types) == {"type": "shout", "payload": {"text": "text"}}


def test_the_example_of_an_installation_as_it_is_cancels_nothing() -> None:
    types = {
        name: {} for name in ("celeriac.bulk", "celeriac.demo", "file_process", "grpc_task", "remote", "sleep", "wait")
    }
    assert example_task(GrpcServices(), types)["type"] == "celeriac.demo"


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "integer", "minimum": 3}, 3),
        ({"type": "string", "examples": ["a.png"]}, "a.png"),
        ({"enum": ["s", "m"]}, "s"),
        ({"anyOf": [{"type": "boolean"}, {"type": "null"}]}, True),
        ({"type": "array", "items": {}}, []),
        ({"$ref": "#/$defs/A", "$defs": {"A": {"type": "object", "required": ["n"], "properties": {}}}}, {"n": {}}),
        ({"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/A"}}}, {}),
    ],
)
def test_example_values_fit_simple_schemas(schema: dict[str, Any], value: Any) -> None:
    assert example_value(schema) == value
