"""Where a setting comes from, how it is written, and what is said of a wrong one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_origin

import pytest
from pydantic import BaseModel

from celeriac.errors import SettingsError
from celeriac.settings import Settings, load_settings, parse_duration_s, parse_size_bytes
from celeriac.settings.fields import section_of


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads a `celeriac.yaml` of the folder that pytest runs in."""
    monkeypatch.chdir(tmp_path)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_command_line_beats_environment_beats_file_beats_default(tmp_path: Path) -> None:
    file = write(tmp_path / "c.yaml", "port: 1\nhost: of.file\ngrpc_port: 3\nworker: {concurrency: 5, groups: a}")
    environ = {"CELERIAC_PORT": "2", "CELERIAC_GRPC_PORT": "4", "CELERIAC_WORKER__CONCURRENCY": "6"}
    settings = load_settings(file, {"grpc_port": 5, "port": None}, environ)
    assert (settings.host, settings.port, settings.grpc_port) == ("of.file", 2, 5)
    assert (settings.worker.concurrency, settings.worker.groups) == (6, "a")
    assert settings.lease == 15.0


SERVICES: dict[str, Any] = {
    "services": {"demo": {"address": "localhost:1", "timeout": "500ms"}},
    "defaults": {"timeout": "10m", "max_retries": 7},
}


@pytest.mark.parametrize("form", ["json", "yaml", "environment", "variable", "well-known"])
def test_the_same_configuration_in_every_form(tmp_path: Path, form: str) -> None:
    text = json.dumps({"grpc_services": SERVICES})
    yaml_text = (
        "grpc_services:\n  services:\n    demo: {address: 'localhost:1', timeout: 500ms}\n"
        "  defaults: {timeout: 10m, max_retries: 7}\n"
    )
    settings = {
        "json": lambda: load_settings(write(tmp_path / "c.json", text), environ={}),
        "yaml": lambda: load_settings(write(tmp_path / "c.yaml", yaml_text), environ={}),
        "well-known": lambda: load_settings(environ={"GRPC_SERVICES": json.dumps(SERVICES)}),
        "variable": lambda: load_settings(environ={"CELERIAC_GRPC_SERVICES": json.dumps(SERVICES)}),
        "environment": lambda: load_settings(
            environ={
                "CELERIAC_GRPC_SERVICES__SERVICES": "{demo: {address: 'localhost:1', timeout: 500ms}}",
                "CELERIAC_GRPC_SERVICES__DEFAULTS__TIMEOUT": "10m",
                "CELERIAC_GRPC_SERVICES__DEFAULTS__MAX_RETRIES": "7",
            }
        ),
    }[form]()
    demo = settings.grpc_services.resolve("demo")
    assert demo is not None
    assert (demo.address, demo.timeout, demo.max_retries, demo.retry_delay) == ("localhost:1", 0.5, 7, 1.0)
    assert settings.grpc_services.resolve("other") is None


def test_the_file_is_found_by_its_variable_or_in_the_folder(tmp_path: Path) -> None:
    named = write(tmp_path / "named.yaml", "port: 1")
    assert load_settings(environ={"CELERIAC_CONFIG": str(named)}).port == 1
    assert load_settings(environ={}).port == 8000
    write(tmp_path / "celeriac.yaml", "port: 2")
    assert load_settings(environ={}).port == 2
    with pytest.raises(SettingsError, match="there is no configuration file"):
        load_settings(tmp_path / "none.yaml", environ={})


@pytest.mark.parametrize("source", ["file", "environment"])
def test_json_is_read_as_json_where_yaml_would_read_it_otherwise(tmp_path: Path, source: str) -> None:
    service = '{\n\t"address": "localhost:1",\n\t"timeout": 1e3,\n\t"metadata": {"x": "\\ud83d\\ude00"}\n}'
    services = f'{{\n\t"services": {{"demo": {service}}}\n}}'
    if source == "file":
        file = write(tmp_path / "c.json", f'\ufeff{{\n\t"grpc_services": {services}\n}}')
        settings = load_settings(file, environ={})
    else:
        settings = load_settings(environ={"GRPC_SERVICES": services})
    demo = settings.grpc_services.resolve("demo")
    assert demo is not None
    assert (demo.timeout, demo.metadata["x"].get_secret_value()) == (1000.0, "\N{GRINNING FACE}")


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n"])
def test_an_empty_file_says_nothing(tmp_path: Path, text: str) -> None:
    assert load_settings(write(tmp_path / "c.yaml", text), environ={}) == Settings()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a\n", "must hold a mapping"),
        ("a: [", "cannot be read as YAML or JSON"),
        ("a: 2024-02-31", "cannot be read as YAML or JSON"),
        ("[" * 5000, "cannot be read as YAML or JSON"),
        ('{"a": ' * 100_000, "cannot be read as YAML or JSON"),
    ],
)
def test_a_file_of_another_shape_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        load_settings(write(tmp_path / "c.yaml", text), environ={})


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"prot": 1}, "there is no setting prot; did you mean port?"),
        ({"worker": {"concurency": 1}}, "there is no setting worker.concurency; did you mean worker.concurrency?"),
        (
            {"grpc_services": {"services": {"demo": {"adress": "x"}}}},
            "there is no setting grpc_services.services.demo.adress; did you mean grpc_services.services.demo.address?",
        ),
        (
            {"groups": {"g": {"procesor": "x"}}},
            "there is no setting groups.g.procesor; did you mean groups.g.processor?",
        ),
        ({"qqqqqqqq": 1}, "there is no setting qqqqqqqq; known are: host, port"),
    ],
)
def test_an_unknown_key_names_the_nearest_known_one(values: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(overrides=values, environ={})
    assert str(caught.value).startswith(said)


def test_an_unknown_variable_of_our_prefix_is_an_error_too() -> None:
    with pytest.raises(SettingsError, match="did you mean lease"):
        load_settings(environ={"CELERIAC_LEASES": "3"})


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ({"port": 70_000}, "port"),
        ({"lease": "0.5s"}, "lease"),
        ({"lease": "soon"}, "lease"),
        ({"max_body_bytes": "10MB"}, "max_body_bytes"),
        ({"durability": "maybe"}, "durability"),
        ({"retention": "1000000d"}, "retention"),
        ({"retention": "9" * 400}, "retention"),
        ({"retention": float("inf")}, "retention"),
        ({"retention": float("nan")}, "retention"),
        ({"sse_keepalive": 0}, "sse_keepalive"),
        ({"max_task_events": 999}, "max_task_events"),
        (
            {"grpc_services": {"services": {"a": {"address": "x:1", "tls": {"cert_file": "a.pem"}}}}},
            "grpc_services.services.a.tls",
        ),
        ({"grpc_services": {"services": {"a": {"address": ""}}}}, "grpc_services.services.a.address"),
        ({"grpc_services": {"services": {"a": {"address": "x:1", "timeout": 0}}}}, "grpc_services.services.a.timeout"),
        ({"grpc_services": {"defaults": {"timeout": "0s"}}}, "grpc_services.defaults.timeout"),
        ({"grpc_services": {"defaults": {"timeout": "367d"}}}, "grpc_services.defaults.timeout"),
        ({"grpc_services": {"services": {"a": {"address": "x:1", "tls": None}}}}, "grpc_services.services.a"),
        ({"worker": {"groups": "a b"}}, "worker.groups"),
        ({"worker": {"groups": ","}}, "worker.groups"),
        ({"worker": {"groups": "a,*"}}, "worker.groups"),
    ],
)
def test_a_wrong_value_names_its_key(values: dict[str, Any], where: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(overrides=values, environ={})
    assert str(caught.value).startswith(f"{where}: ")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"lease": "soon"}, "lease: 'soon' is not a duration: write 500ms, 30s, 10m, 1h, 7d, 1h30m or plain seconds"),
        ({"grpc_services": None}, "grpc_services: must be a mapping of settings"),
        (
            {"grpc_services": {"services": {"a": "localhost:1"}}},
            "grpc_services.services.a: must be a mapping of settings",
        ),
    ],
)
def test_what_is_wrong_with_a_value_is_said_in_plain_words(tmp_path: Path, values: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(write(tmp_path / "c.json", json.dumps(values)), environ={})
    assert str(caught.value) == said


@pytest.mark.parametrize(
    "address",
    [
        "executor_1.internal:50061",
        "10.0.0.7:1",
        "[::1]:50061",
        "unix:/run/executor.sock",
        "unix:executor.sock",
        "unix:///run/executor.sock",
        "unix-abstract:executor",
        "dns:executor:50061",
        "dns:///executor:50061",
        "dns://8.8.8.8/executor:50061",
        "ipv4:10.0.0.7:50061,10.0.0.8:50061",
        "ipv6:[::1]:65535",
        "xds:///executor",
    ],
)
def test_an_executor_is_where_grpc_itself_can_call_it(address: str) -> None:
    settings = load_settings(overrides={"grpc_services": {"services": {"a": {"address": address}}}}, environ={})
    assert settings.grpc_services.services["a"].address == address


@pytest.mark.parametrize(
    ("address", "wrong"),
    [
        ("", "has no port"),
        ("nohost", "has no port"),
        ("nohost:", "has no port"),
        ("[::1]", "has no port"),
        ("dns:///executor", "has no port"),
        (":50061", "has no host"),
        ("executor:0", "has a port that is not a number from 1 to 65535"),
        ("executor:65536", "has a port that is not a number from 1 to 65535"),
        ("executor:grpc", "has a port that is not a number from 1 to 65535"),
        ("executor:50061/path", "has a port that is not a number from 1 to 65535"),
        ("::1:50061", "has a host that is neither a name nor an IP address"),
        ("user@executor:50061", "has a host that is neither a name nor an IP address"),
        (" executor:50061", "has a host that is neither a name nor an IP address"),
        ("[executor]:50061", "has a host that is not an IPv6 address"),
        ("ipv4:executor:50061", "has a host that is not an IPv4 address"),
        ("http://executor:50061", "is a URL"),
        ("grpcs://user:hunter2@executor:50061", "is a URL"),
        ("unix:", "has no path"),
        ("unix://run/executor.sock", "has something between // and /"),
    ],
)
def test_an_executor_that_nobody_could_call_is_refused_when_the_settings_are_read(address: str, wrong: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(overrides={"grpc_services": {"services": {"a": {"address": address}}}}, environ={})
    assert str(caught.value).startswith(f"grpc_services.services.a.address: {wrong}: write host:port, e.g. ")
    assert "hunter2" not in str(caught.value)


def test_metadata_of_a_service_travels_as_it_is_written_in_the_environment() -> None:
    prefix = "CELERIAC_GRPC_SERVICES__SERVICES__DEMO__"
    environ = {f"{prefix}ADDRESS": "localhost:1", f"{prefix}METADATA__TOKEN": "0123", f"{prefix}METADATA__FLAG": "yes"}
    demo = load_settings(environ=environ).grpc_services.services["demo"]
    assert {name: secret.get_secret_value() for name, secret in demo.metadata.items()} == {
        "token": "0123",
        "flag": "yes",
    }


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("500ms", 0.5), ("30s", 30), ("10m", 600), ("1h", 3600), ("7d", 604_800), ("15", 15), ("1.5", 1.5)),
        *((" 2 s ", 2), ("1h30m", 5400), ("1d 12h", 129_600), ("1m500ms", 60.5), ("2h 0.5s", 7200.5)),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration_s(text) == seconds
    assert load_settings(environ={"CELERIAC_RETENTION": text}).retention == seconds


@pytest.mark.parametrize("text", ["", "-1s", "1 week", "s", "1s2m", "1m2m", "1h30", "nan", "inf", "\u0663s", True])
def test_texts_that_are_no_duration(text: Any) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration_s(text)


@pytest.mark.parametrize(
    ("text", "size"), [("512KiB", 512 * 1024), ("10MiB", 10 * 1024**2), ("1gib", 1024**3), ("7", 7), ("7 B", 7)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size_bytes(text) == size
    assert load_settings(environ={"MAX_BODY_BYTES": text}).max_body_bytes == size


def test_redis_is_named_in_one_or_in_parts() -> None:
    parts = {"REDIS_ADDR": "db:6380", "REDIS_PASSWORD": "p@ss/word", "REDIS_DB": "3"}
    assert load_settings(environ=parts).redis_url == "redis://:p%40ss%2Fword@db:6380/3"
    assert load_settings(environ={"REDIS_ADDR": "db:6380"}).redis_url == "redis://db:6380/0"
    assert load_settings(environ={**parts, "REDIS_URL": "redis://one/1"}).redis_url == "redis://one/1"


def test_a_group_has_its_own_limit_or_the_common_one() -> None:
    settings = load_settings(overrides={"max_queue_length": 9, "groups": {"a": {"max_queue_length": 3}}}, environ={})
    assert (settings.queues.limit_of("a"), settings.queues.limit_of("b")) == (3, 9)


def test_secrets_do_not_show() -> None:
    service = {"address": "x:1", "metadata": {"authorization": "Bearer hunter2"}}
    settings = load_settings(overrides={"grpc_services": {"services": {"a": service}}}, environ={})
    assert "hunter2" not in repr(settings)


def test_a_well_known_name_may_come_from_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "redis_url"
    secret.write_text("redis://:s3cret@store:6379/0\n")
    settings = load_settings(environ={"REDIS_URL_FILE": str(secret)})
    assert settings.redis_url == "redis://:s3cret@store:6379/0"
    with pytest.raises(SettingsError, match="REDIS_URL and REDIS_URL_FILE are both set"):
        load_settings(environ={"REDIS_URL_FILE": str(secret), "REDIS_URL": "redis://x"})
    with pytest.raises(SettingsError, match=r"DATABASE_URL_FILE: .*nowhere cannot be read"):
        load_settings(environ={"DATABASE_URL_FILE": str(tmp_path / "nowhere")})


@pytest.mark.parametrize("url", ["mysql://shop:secret@db/shop", "shop.db", "sqlite://", "sqlite:///:memory:"])
def test_an_outbox_needs_a_database_that_can_have_one(url: str) -> None:
    with pytest.raises(SettingsError, match=r"outbox\.databases: must be sqlite:///PATH") as refused:
        load_settings(environ={"CELERIAC_OUTBOX__DATABASES": f'["sqlite:////srv/shop.db", "{url}"]'})
    assert "secret" not in str(refused.value)


#: Two values for each setting that is a list of texts, and what is between them in one text.
LISTS: dict[str, tuple[list[str], str]] = {
    "imports": (["shop.jobs", "shop.mail"], ","),
    "access.default_scopes": (["read", "submit"], ","),
    "access.allowed_hosts": (["celeriac", "api.internal"], ","),
    "access.cors_origins": (["https://a.example", "https://b.example:8443"], ", "),
    "access.trusted_proxies": (["10.0.0.1", "10.1.0.0/16"], ","),
    "outbox.databases": (["sqlite:////data/shop.db", "postgresql://shop@db/shop"], ","),
    "ledger.search": (["payload", "error"], ", "),
    "files.upload_types": (["video/*", "image/png"], ","),
}


def _lists(section: type[BaseModel], path: str = "") -> Iterator[str]:
    for name, field in section.model_fields.items():
        if get_origin(field.annotation) is list:
            yield path + name
        elif (below := section_of(field.annotation)) is not None and not below[1]:
            yield from _lists(below[0], f"{path}{name}.")


@pytest.mark.parametrize("path", list(_lists(Settings)))
def test_a_variable_lists_texts_with_commas_or_as_yaml(path: str) -> None:
    values, between = LISTS[path]
    for text in (between.join(values), json.dumps(values)):
        found: Any = load_settings(environ={f"CELERIAC_{path.replace('.', '__').upper()}": text})
        for part in path.split("."):
            found = getattr(found, part)
        assert list(map(str, found)) == values, text
