"""Which errors of the store pass by themselves, and which ones somebody must mend."""

from __future__ import annotations

from typing import Final

import pytest
from redis._parsers.base import BaseParser
from redis.exceptions import ConnectionError as RedisConnectionError

from celeriac.store.server.answers import FINAL, PASSING, code_of, described, is_wrong, passes, refuses_login

#: What servers say, word for word.
SAID: Final = {
    "LOADING Redis is loading the dataset in memory": ("LOADING", True),
    "READONLY You can't write against a read only replica.": ("READONLY", True),
    "READONLY You can't write against a read only replica. script: 4ca, on @user_script:12.": ("READONLY", True),
    "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)": ("UNBLOCKED", True),
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.": ("MASTERDOWN", True),
    "NOREPLICAS Not enough good replicas to write.": ("NOREPLICAS", True),
    "CLUSTERDOWN The cluster is down": ("CLUSTERDOWN", True),
    "CLUSTERDOWN Hash slot not served": ("CLUSTERDOWN", True),
    "TRYAGAIN Multiple keys request during rehashing of slot": ("TRYAGAIN", True),
    "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.": ("BUSY", True),
    "OOM command not allowed when used memory > 'maxmemory'.": ("OOM", True),
    "MISCONF Errors writing to the AOF file: No space left on device": ("MISCONF", True),
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.": (
        "MISCONF",
        True,
    ),
    "EXECABORT Transaction discarded because of previous errors.": ("EXECABORT", True),
    # As servers before version 7 report an error inside a script.
    "ERR Error running script (call to f_4ca): @user_script:44: @user_script: 44: -READONLY You can't write against a"
    " read only replica.": ("READONLY", True),
    "ERR Error running script (call to f_4ca): @user_script:7: -OOM command not allowed when used memory": (
        "OOM",
        True,
    ),
    # As a script passes it on.
    "ERR READONLY You can't write against a read only replica. script: 4ca, on @user_script:140.": ("READONLY", True),
    "NOAUTH Authentication required.": ("NOAUTH", False),
    "WRONGPASS invalid username-password pair or user is disabled.": ("WRONGPASS", False),
    "NOPERM User x has no permissions to run the 'set' command": ("NOPERM", False),
    "MOVED 3999 127.0.0.1:6381": ("MOVED", False),
    "CROSSSLOT Keys in request don't hash to the same slot": ("CROSSSLOT", False),
    "DENIED Redis is running in protected mode": ("DENIED", False),
    "NOSCRIPT No matching script. Please use EVAL.": ("NOSCRIPT", False),
    # These begin like one that passes.
    "BUSYGROUP Consumer Group name already exists": ("BUSYGROUP", False),
    "BUSYKEY Target key name already exists.": ("BUSYKEY", False),
    "WRONGTYPE Operation against a key holding the wrong kind of value": ("WRONGTYPE", False),
    "ERR unknown command 'FOO'": ("ERR", False),
    "ERR Error running script (call to f_4ca): @user_script:7: attempt to index a nil value": ("ERR", False),
    "wrong": ("ERR", False),
    "": ("ERR", False),
}


@pytest.mark.parametrize("text", SAID)
def test_the_code_of_an_answer_says_whether_it_passes(text: str) -> None:
    error = BaseParser.parse_error(text)
    assert (code_of(error), passes(error)) == SAID[text]


@pytest.mark.parametrize("code", [*PASSING, *FINAL])
def test_each_refusal_is_described_with_its_code(code: str) -> None:
    text = described(BaseParser.parse_error(f"{code} 3999 127.0.0.1:6381"))
    assert f"({code})" in text
    assert (PASSING | FINAL)[code] in text


@pytest.mark.parametrize("text", SAID)
def test_only_a_command_that_is_wrong_is_refused_for_good(text: str) -> None:
    assert is_wrong(BaseParser.parse_error(text)) == (SAID[text][0] in ("ERR", "WRONGTYPE"))


def test_only_a_refused_login_makes_repeating_senseless() -> None:
    assert refuses_login(BaseParser.parse_error("NOAUTH Authentication required."))
    assert refuses_login(BaseParser.parse_error("WRONGPASS invalid username-password pair or user is disabled."))
    assert not refuses_login(RedisConnectionError("refused"))
    assert not refuses_login(BaseParser.parse_error("LOADING Redis is loading the dataset in memory"))
    assert "cannot be reached" in described(RedisConnectionError("refused"))


def test_no_code_is_in_both_tables() -> None:
    assert not set(PASSING) & set(FINAL)
