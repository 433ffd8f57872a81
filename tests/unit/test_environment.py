"""Surroundings that nobody chose: variables of Kubernetes and Docker, encodings of files, addresses of IPv6."""

from __future__ import annotations

import codecs
from ipaddress import ip_network
from pathlib import Path

import pytest
from uvicorn.middleware.proxy_headers import _TrustedHosts

from celeriac.errors import SettingsError
from celeriac.settings import Settings, client_environment, config_path, load_settings, redis_url_of_parts
from celeriac.settings.environment import without_service_variables
from celeriac.settings.loading import WELL_KNOWN
from celeriac.up.ports import host_of, in_url, reachable, with_port
from celeriac_api.rpc.access import address_of
from celeriac_api.server import _proxies


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


#: What Kubernetes sets for a service named `celeriac` with two ports, and Docker for a container linked as `celeriac`.
SERVICE = {
    "CELERIAC_PORT": "tcp://10.0.0.1:8000",
    "CELERIAC_SERVICE_HOST": "10.0.0.1",
    "CELERIAC_SERVICE_PORT": "8000",
    "CELERIAC_SERVICE_PORT_HTTP": "8000",
    "CELERIAC_SERVICE_PORT_GRPC_WEB": "50050",
    "CELERIAC_PORT_8000_TCP": "tcp://10.0.0.1:8000",
    "CELERIAC_PORT_8000_TCP_PROTO": "tcp",
    "CELERIAC_PORT_8000_TCP_PORT": "8000",
    "CELERIAC_PORT_8000_TCP_ADDR": "10.0.0.1",
    "CELERIAC_PORT_53_UDP": "udp://10.0.0.1:53",
    "CELERIAC_PORT_53_UDP_ADDR": "10.0.0.1",
    "CELERIAC_PORT_9_SCTP_PROTO": "sctp",
    # services named celeriac-grpc, celeriac-api-v2, celeriac-host, celeriac-up--flower
    "CELERIAC_GRPC_PORT": "udp://10.0.0.2:50050",
    "CELERIAC_GRPC_SERVICE_HOST": "10.0.0.2",
    "CELERIAC_API_V2_SERVICE_HOST": "fd00::1",
    "CELERIAC_API_V2_PORT": "tcp://[fd00::1]:80",
    "CELERIAC_HOST_PORT_80_TCP": "tcp://10.0.0.3:80",
    "CELERIAC_UP__FLOWER_PORT": "tcp://10.0.0.4:5555",
    # services named task-grpc, redis, jwt-secret
    "TASK_GRPC_PORT": "tcp://10.0.0.5:50050",
    "REDIS_PORT": "tcp://10.0.0.6:6379",
    "REDIS_SERVICE_HOST": "10.0.0.6",
    # a link
    "CELERIAC_NAME": "/web/celeriac",
    "CELERIAC_ENV_LANG": "C",
}


def test_variables_of_services_are_not_settings() -> None:
    assert load_settings(environ=SERVICE) == Settings()
    assert without_service_variables(SERVICE) == {}
    assert redis_url_of_parts(SERVICE) == redis_url_of_parts({})
    assert client_environment(SERVICE) == client_environment({})
    assert config_path(environ=SERVICE) is None


# Only the name of a link tells that a variable with `_ENV_` belongs to it.
@pytest.mark.parametrize("name", [name for name in SERVICE if "_ENV_" not in name])
def test_each_of_them_alone_is_not_a_setting(name: str) -> None:
    assert load_settings(environ={name: SERVICE[name]}) == Settings()


@pytest.mark.parametrize("name", list(WELL_KNOWN))
def test_a_service_named_as_a_well_known_variable_changes_nothing(name: str) -> None:
    variables = {f"{name}_SERVICE_HOST": "10.0.0.1", f"{name}_PORT": "tcp://10.0.0.1:1", f"{name}_PORT_1_TCP": "x"}
    if name.endswith("_PORT"):
        variables[name] = "tcp://10.0.0.1:1"
    assert load_settings(environ=variables) == Settings()


def test_settings_beside_variables_of_services_count() -> None:
    ours = {"CELERIAC_HOST": "127.0.0.2", "CELERIAC_GROUPS__A_PORT_80__MAX_QUEUE_LENGTH": "3", "TASK_GRPC_PORT": "7"}
    settings = load_settings(environ={**SERVICE, **ours})
    assert (settings.host, settings.grpc_port, settings.groups["a_port_80"].max_queue_length) == ("127.0.0.2", 7, 3)
    assert load_settings(environ={"CELERIAC_PORT": "8001"}).port == 8001


@pytest.mark.parametrize("text", ["tcp:/10.0.0.1:80", "http://10.0.0.1:80", "eight"])
def test_a_port_that_is_not_of_a_service_is_a_wrong_value(text: str) -> None:
    with pytest.raises(SettingsError, match=r"^port: "):
        load_settings(environ={"CELERIAC_PORT": text})


@pytest.mark.parametrize("name", ["CELERIAC_HOST", "JWT_SECRET", "REDIS_URL", "CELERIAC_CONFIG", "REDIS_ADDR"])
def test_bytes_that_are_not_text_are_named(name: str) -> None:
    with pytest.raises(SettingsError, match=r"UTF-8"):
        load_settings(environ={name: b"a\xff".decode(errors="surrogateescape")})


def test_foreign_bytes_elsewhere_do_not_matter() -> None:
    assert load_settings(environ={"LS_COLORS": "\udcff", "CELERIACX": "\udcff"}) == Settings()


YAML = "port: 8001\nhost: 127.0.0.3\n"
JSON = '{"port": 8001,\n "host": "127.0.0.3"}\n'


@pytest.mark.parametrize("text", [YAML, JSON])
@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_marks_and_line_ends_of_other_editors_are_read(tmp_path: Path, text: str, mark: bytes, end: str) -> None:
    file = tmp_path / "c.yaml"
    file.write_bytes(mark + text.replace("\n", end).encode())
    settings = load_settings(file, environ={})
    assert (settings.port, settings.host) == (8001, "127.0.0.3")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (codecs.BOM_UTF16_LE + YAML.encode("utf-16-le"), "is written in UTF-16: save it in UTF-8"),
        (codecs.BOM_UTF16_BE + YAML.encode("utf-16-be"), "is written in UTF-16: save it in UTF-8"),
        (YAML.encode() + b"imports: [caf\xe9]\n", "line 3 has other bytes"),
        (YAML.encode("utf-16-le"), "cannot be read"),
        (b"\0\0\0", "cannot be read"),
    ],
)
def test_a_file_in_another_encoding_is_refused_in_one_sentence(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "c.yaml"
    file.write_bytes(content)
    with pytest.raises(SettingsError, match=r"UTF-8|YAML") as refused:
        load_settings(file, environ={})
    assert said in str(refused.value)
    assert str(file) in str(refused.value)
    with pytest.raises(SettingsError, match="DATABASE_URL_FILE"):
        load_settings(environ={"DATABASE_URL_FILE": str(file), "DATABASE_URL": "x"})


@pytest.mark.parametrize("content", [b"", codecs.BOM_UTF8, b"\r\n", b"# nothing\r\n", b"---\n", b"{}", b"null"])
def test_a_file_that_says_nothing_changes_nothing(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "c.yaml"
    file.write_bytes(content)
    assert load_settings(file, environ={}) == Settings()


def test_a_folder_is_not_a_configuration_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="is not a file: correct --config"):
        load_settings(tmp_path, environ={})
    (tmp_path / "celeriac.yaml").mkdir()
    assert load_settings(environ={}) == Settings()


def test_a_secret_in_a_file_has_neither_mark_nor_line_end(tmp_path: Path) -> None:
    secret = "0123456789abcdef0123456789abcdef"
    file = tmp_path / "secret"
    file.write_bytes(codecs.BOM_UTF8 + secret.encode() + b"\r\n")
    settings = load_settings(environ={"JWT_SECRET_FILE": str(file)})
    assert settings.access.jwt_secret is not None
    assert settings.access.jwt_secret.get_secret_value() == secret
    file.write_bytes(codecs.BOM_UTF16_LE + secret.encode("utf-16-le"))
    with pytest.raises(SettingsError, match=r"^JWT_SECRET_FILE: .* is written in UTF-16"):
        load_settings(environ={"JWT_SECRET_FILE": str(file)})


@pytest.mark.parametrize(
    ("written", "host", "url", "port"),
    [
        ("127.0.0.1", "127.0.0.1", "127.0.0.1", "127.0.0.1:80"),
        ("example.org", "example.org", "example.org", "example.org:80"),
        ("::1", "::1", "[::1]", "[::1]:80"),
        ("[::1]", "::1", "[::1]", "[::1]:80"),
        (" ::1 ", "::1", "[::1]", "[::1]:80"),
        ("::", "::", "[::]", "[::]:80"),
        ("fe80::1%eth0", "fe80::1%eth0", "[fe80::1%25eth0]", "[fe80::1%eth0]:80"),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.1", "[::ffff:10.0.0.1]", "[::ffff:10.0.0.1]:80"),
    ],
)
def test_an_address_of_ipv6_is_written_as_each_place_needs_it(written: str, host: str, url: str, port: str) -> None:
    assert load_settings(environ={"CELERIAC_HOST": written}).host == host
    assert (in_url(host), with_port(host, 80)) == (url, port)
    assert host_of(with_port(host, 80)) == host_of(host) == host


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("CELERIAC_HOST", "::", "::"),
        ("CELERIAC_HOST", "no", "no"),
        ("CELERIAC_HOST", "1.10", "1.10"),
        ("CELERIAC_HOST", '"::1"', "::1"),
        ("CELERIAC_DATA_DIR", "2026-01-01", Path("2026-01-01")),
        ("CELERIAC_DATA_DIR", "0123", Path("0123")),
        ("CELERIAC_DATA_DIR", "[x]: {y} # z", Path("[x]: {y} # z")),
        ("CELERIAC_DATA_DIR", "'a b'", Path("a b")),
        ("CELERIAC_DATA_DIR", "~/x", Path("~/x")),
        ("CELERIAC_NOTIFICATIONS__GROUP", "on", "on"),
        ("CELERIAC_UP__PROCESSES__X", "*run: now", "*run: now"),
        ("CELERIAC_DATA_DIR", r'"a\"b\\\ud83d\ude00"', Path('a"b\\😀')),
        ("CELERIAC_DATABASE_URL", "null", None),
        ("DATABASE_URL", "sqlite:///a: b # c", "sqlite:///a: b # c"),
        ("CELERIAC_LOG_LEVEL", "debug", "debug"),
        ("CELERIAC_TASK_LOG__LEVEL", "error", "error"),
        ("FFMPEG_BINARY", "/opt/a: b", Path("/opt/a: b")),
        ("CELERIAC_IMPORTS", "[a, b]", ["a", "b"]),
    ],
)
def test_a_text_is_taken_as_it_is_and_not_as_yaml(name: str, text: str, value: object) -> None:
    path = {"DATABASE_URL": ["database_url"], "FFMPEG_BINARY": ["files", "processing", "ffmpeg"]}.get(name)
    found: object = load_settings(environ={name: text})
    for part in path or name.removeprefix("CELERIAC_").lower().split("__"):
        found = found[part] if isinstance(found, dict) else getattr(found, part)
    assert found == value


def test_a_server_on_every_address_is_reached_by_loopback() -> None:
    assert [reachable(host) for host in ("0.0.0.0", "::", "", "::1", "10.0.0.1")] == [
        *("127.0.0.1", "::1", "127.0.0.1", "::1", "10.0.0.1")
    ]


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("ipv6:%5B::1%5D:5000", "", "::1"),
        ("ipv6:[2001:db8::1]:5000", "203.0.113.9", "2001:db8::1"),
        ("ipv4:10.0.0.7:5000", "2001:db8::1", "2001:db8::1"),
        ("ipv4:10.0.0.7:5000", "[2001:db8::1]:443", "2001:db8::1"),
        ("ipv4:10.0.0.7:5000", "1.2.3.4, 203.0.113.9:5555", "203.0.113.9"),
        # A server on `::` sees a proxy over IPv4 so.
        ("ipv6:%5B::ffff:10.0.0.7%5D:5000", "[2001:db8::1]", "2001:db8::1"),
        ("ipv6:[fd00::7]:5000", "2001:db8::1, ::ffff:10.0.0.9", "2001:db8::1"),
        ("ipv6:[fd00::7]:5000", "2001:db8::1, fd00::8", "2001:db8::1"),
        ("unix:/run/x.sock", "2001:db8::1", "unix:/run/x.sock"),
    ],
)
def test_the_address_of_a_call_is_found_behind_proxies_of_both_families(
    peer: str, forwarded: str, address: str
) -> None:
    networks = ["10.0.0.0/8", "fd00::/16"]
    assert address_of(peer, forwarded, [ip_network(network) for network in networks]) == address


@pytest.mark.parametrize("path", ["/run/" + "x" * 103, "/run/" + "ö" * 52, "x" * 200])
def test_a_socket_whose_path_is_too_long_is_refused_when_the_settings_are_read(path: str) -> None:
    with pytest.raises(SettingsError, match=r"services\.x\.address: .*more than 10[37] bytes"):
        load_settings(environ={"CELERIAC_GRPC_SERVICES__SERVICES__X__ADDRESS": f"unix:{path}"})
    short = load_settings(environ={"CELERIAC_GRPC_SERVICES__SERVICES__X__ADDRESS": f"unix:/run/{'x' * 98}"})
    assert short.grpc_services.resolve("x") is not None


def test_a_data_folder_that_no_url_of_sqlite_can_name_is_refused() -> None:
    for folder in ("/d/a?b", "/d/a?mode=ro"):
        with pytest.raises(SettingsError, match=r"question mark"):
            assert load_settings(environ={"CELERIAC_DATA_DIR": folder}).history_url
        url = load_settings(environ={"CELERIAC_DATA_DIR": folder, "DATABASE_URL": "postgresql://h/x"}).history_url
        assert url == "postgresql://h/x"
    assert load_settings(environ={"CELERIAC_DATA_DIR": "/d/%41#ä ;"}).history_url == "sqlite:////d/%41#ä ;/celeriac.db"


def test_http_trusts_the_same_proxies() -> None:
    trusted = _TrustedHosts(_proxies(["10.0.0.0/8", "192.0.2.1", "fd00::/16"]))
    for host in ("10.0.0.7", "::ffff:10.0.0.7", "192.0.2.1", "::ffff:192.0.2.1", "fd00::8"):
        assert host in trusted, host
    for host in ("11.0.0.7", "::ffff:11.0.0.7", "::ffff:192.0.2.2", "::1", "fe80::1"):
        assert host not in trusted, host


@pytest.mark.parametrize(
    ("place", "url"),
    [
        ("::1", "redis://[::1]:6379/0"),
        ("[::1]", "redis://[::1]/0"),
        ("[::1]:6380", "redis://[::1]:6380/0"),
        ("h:1", "redis://h:1/0"),
    ],
)
def test_the_address_of_redis_may_be_of_ipv6(place: str, url: str) -> None:
    assert redis_url_of_parts({"REDIS_ADDR": place}) == url
