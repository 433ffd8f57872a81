from __future__ import annotations

import sys
from pathlib import Path

import pytest

from celeriac.errors import SettingsError
from celeriac.settings import GrpcService, Settings, load_settings
from celeriac.up.children import child_environment, executor_places, platform_commands, user_commands


def _settings(**values: object) -> Settings:
    return Settings.model_validate({"data_dir": "/data folder", **values})


def _programs(settings: Settings) -> tuple[dict[str, str], dict[str, GrpcService]]:
    return settings.up.processes, settings.grpc_services.services


def test_command_lines_say_what_the_children_are_and_hold_no_secret() -> None:
    settings = _settings(redis_url="redis://:s3cret@127.0.0.1/0", up={"workers": 2})
    commands = platform_commands(settings, config=Path("/etc/celeriac.yaml"), insecure=False)
    assert list(commands) == ["api", "beat", "worker", "worker-2"]
    assert commands["api"] == (
        sys.executable, "-m", "celeriac", "api", "--host", "127.0.0.1", "--port", "8000", "--grpc-port", "50050",
        "--data-dir", "/data folder", "--config", "/etc/celeriac.yaml",
    )  # fmt: skip
    assert commands["worker-2"][3:5] == ("worker", "--groups")
    assert "s3cret" not in str(commands)


def test_insecure_is_passed_on_to_the_api_only() -> None:
    commands = platform_commands(_settings(), config=None, insecure=True)
    assert [name for name, command in commands.items() if "--insecure" in command] == ["api"]


def test_children_load_the_same_settings_from_their_environment() -> None:
    inherited = {"CELERIAC_REDIS_URL": "redis://old", "REDIS_ADDR": "old:1", "TASK_GRPC_PORT": "1", "PATH": "/bin"}
    environ = child_environment(
        _settings(port=8123, grpc_port=50123),
        redis_url="redis://new",
        database_url="sqlite:////data folder/celeriac.db",
        config=None,
        environ=inherited,
    )
    loaded = load_settings(environ=environ)
    assert (loaded.redis_url, loaded.port, loaded.grpc_port) == ("redis://new", 8123, 50123)
    assert loaded.data_dir == Path("/data folder")
    assert environ["PATH"] == "/bin"


def test_programs_of_the_operator_are_split_without_a_shell_and_python_is_this_one() -> None:
    programs = {"demo": "python server.py --title 'a b'", "web": "uvicorn app", "other": "/bin/true"}
    commands = user_commands(programs, {}, taken={"api"})
    # A program of the environment is found whether that is active or not.
    assert commands.pop("web") == (str(Path(sys.executable).with_name("uvicorn")), "app")
    assert commands == {"demo": (sys.executable, "server.py", "--title", "a b"), "other": ("/bin/true",)}


def test_a_program_is_told_the_port_of_its_service() -> None:
    services = {"demo": {"address": "127.0.0.1:50061"}, "six": {"address": "[::1]:7"}}
    processes = {"a": "a --port {grpc_services.demo.port} -x {} {a}", "b": "b -p={grpc_services.six.port}"}
    settings = _settings(grpc_services={"services": services}, up={"processes": processes})
    assert user_commands(*_programs(settings), taken=set()) == {
        "a": ("a", "--port", "50061", "-x", "{}", "{a}"),
        "b": ("b", "-p=7"),
    }
    assert executor_places(*_programs(settings)) == {("127.0.0.1", 50061): ("a", "demo"), ("::1", 7): ("b", "six")}


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (None, "there is no gRPC service 'demo'; known are: none"),
        ("unix:/run/x", "'demo' needs an address with exactly one port"),
    ],
)
def test_a_port_that_no_service_has_is_refused_at_once(address: str | None, text: str) -> None:
    services = {} if address is None else {"demo": {"address": address}}
    settings = _settings(grpc_services={"services": services}, up={"processes": {"a": "a {grpc_services.demo.port}"}})
    with pytest.raises(SettingsError, match=text):
        user_commands(*_programs(settings), taken=set())


@pytest.mark.parametrize(
    ("processes", "text"),
    [({"api": "x"}, "up.processes.api.*choose another"), ({"a": "'"}, "up.processes.a"), ({"a": " "}, "is empty")],
)
def test_a_program_that_cannot_be_started_is_refused_at_once(processes: dict[str, str], text: str) -> None:
    with pytest.raises(SettingsError, match=text):
        user_commands(processes, {}, taken={"api"})
