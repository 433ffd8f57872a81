"""Keys and channels under the prefix of an installation."""

from __future__ import annotations

from typing import Any

import pytest

from celeriac.errors import SettingsError
from celeriac.settings import load_settings
from celeriac.store import keys
from celeriac.store.server.prefix import UnknownCommandError, prefixed
from celeriac.store.server.scripts import every_function, library, script

PREFIX = "{shop}:"


@pytest.mark.parametrize("prefix", ["", "shop:", "{shop}:", "eu/{shop-1}.", "a" * 64])
def test_prefixes_of_plain_characters_are_taken(prefix: str) -> None:
    assert load_settings(environ={"CELERIAC_KEY_PREFIX": prefix}).store.key_prefix == prefix


@pytest.mark.parametrize(
    ("prefix", "complaint"),
    [
        ("my shop:", "key_prefix: 'my shop:' contains ' '; use letters, digits and"),
        ("shop*:", "contains '*'"),
        ("[shop]:", "contains '['"),
        ("sh'op", 'contains "\'"'),
        ("läden:", "contains 'ä'"),
        ("{shop:", "needs one pair of braces with a text in it, as in {celeriac}:, or no braces"),
        ("}shop{:", "needs one pair of braces"),
        ("{}:", "needs one pair of braces"),
        ("{a}{b}:", "needs one pair of braces"),
        ("a" * 65, "has 65 characters, which each key would have; use at most 64"),
        ("task:", "begins like keys of an installation without a prefix"),
        ("celeriac:x", "begins like keys of an installation without a prefix"),
    ],
)
def test_other_prefixes_are_refused_with_what_to_do(prefix: str, complaint: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(environ={"CELERIAC_KEY_PREFIX": prefix})
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    ("command", "under"),
    [
        (("GET", "a"), ["GET", "{shop}:a"]),
        (("get", b"a\xff"), ["get", b"{shop}:a\xff"]),
        (("DEL", "a", "b"), ["DEL", "{shop}:a", "{shop}:b"]),
        (("SET", "a", "celeriac:b", "PX", 5), ["SET", "{shop}:a", "celeriac:b", "PX", 5]),
        (("BRPOP", "a", "b", 1), ["BRPOP", "{shop}:a", "{shop}:b", 1]),
        (("EVALSHA", "sha", 2, "a", "b", "c"), ["EVALSHA", "sha", 2, "{shop}:a", "{shop}:b", "c"]),
        (("FCALL", "f", "0", "a"), ["FCALL", "f", "0", "a"]),
        (("ZINTER", 2, "a", "b", "WEIGHTS", 0, 1), ["ZINTER", 2, "{shop}:a", "{shop}:b", "WEIGHTS", 0, 1]),
        (
            ("XREADGROUP", "GROUP", "g", "c", "COUNT", 5, "STREAMS", "a", "b", ">", ">"),
            ["XREADGROUP", "GROUP", "g", "c", "COUNT", 5, "STREAMS", "{shop}:a", "{shop}:b", ">", ">"],
        ),
        (("XINFO GROUPS", "a"), ["XINFO", "GROUPS", "{shop}:a"]),
        (("SCAN", 0, "MATCH", "task:*", "COUNT", 5), ["SCAN", 0, "MATCH", "{shop}:task:*", "COUNT", 5]),
        (("SCAN", 0), ["SCAN", 0, "MATCH", "{shop}:*"]),
        (("PUBLISH", "a", "b"), ["PUBLISH", "{shop}:a", "b"]),
        (("SUBSCRIBE", "a", "b"), ["SUBSCRIBE", "{shop}:a", "{shop}:b"]),
        (("CLIENT SETINFO", "LIB-NAME", "x"), ["CLIENT", "SETINFO", "LIB-NAME", "x"]),
        (("PING",), ["PING"]),
    ],
)
def test_each_key_of_a_command_gets_the_prefix(command: tuple[Any, ...], under: list[Any]) -> None:
    assert prefixed(PREFIX, command) == under


def test_a_command_whose_keys_are_not_known_is_refused() -> None:
    with pytest.raises(UnknownCommandError, match="with a key_prefix, FLUSHALL cannot be sent"):
        prefixed(PREFIX, ("flushall",))


def test_scripts_and_functions_build_every_key_under_the_prefix() -> None:
    names = [keys.EVENTS, keys.EXTERNAL, keys.task(""), keys.waiting(""), keys.RULES]
    for text in [library(PREFIX).source, script("submit", PREFIX).source]:
        assert all(f"'{PREFIX}{name}'" in text for name in names)
        assert all(f"'{name}'" not in text for name in names)
        assert f"prefix = '{PREFIX}'" in text


def test_each_prefix_has_functions_of_its_own_and_without_one_nothing_changes() -> None:
    assert len({library().name, library(PREFIX).name, library("other:").name}) == 3
    assert script("submit", "") == script("submit")
    assert [one.function for one in every_function(PREFIX)] != [one.function for one in every_function()]
