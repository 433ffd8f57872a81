"""Which error messages are alike."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celeriac.history.error_groups import error_group_of, normalised

#: Message, and what is left when its values are replaced.
EXAMPLES = (
    ("it broke", "it broke"),
    ("", ""),
    ("order 1017 not found", "order <n> not found"),
    ("took 2.5s, more than 30 s", "took <n>s, more than <n> s"),
    ("1,024 rows", "<n> rows"),
    ("utf8 and HTTP2 keep their names", "utf8 and HTTP2 keep their names"),
    ("task 59d985bf-6be8-4eb8-a457-408492f4b84f is gone", "task <id> is gone"),
    ("commit 1ce9a18f0b", "commit <id>"),
    ("token sk-live-83hd72hs81jd is refused", "token <id> is refused"),
    ("a well-known-kind-of-thing stays", "a well-known-kind-of-thing stays"),
    ("no such key: 'customer'", "no such key: <value>"),
    ('no column "name" in `users`', "no column <value> in <value>"),
    ("can't read it, and won't", "can't read it, and won't"),
    ("参数 “城市” 无效: 第 3 行", "参数 <value> 无效: 第 <n> 行"),
    (
        "HTTPSConnectionPool(host='api.example.org', port=443): Max retries exceeded with url: /v1/orders/1017",
        "HTTPSConnectionPool(host=<value>, port=<n>): Max retries exceeded with url: <path>",
    ),
    ("<Task object at 0x7f3c2a10>", "<Task object at <address>>"),
    ("10.0.0.7:5432 refused the connection", "<address> refused the connection"),
    ("connect to db-1.internal:5432 failed", "connect to <address> failed"),
    ("cannot reach ::1", "cannot reach ::<n>"),
    ("cannot reach fe80::1ff:fe23:4567:890a", "cannot reach <address>"),
    ("GET https://api.example.org/v1/x?id=7 answered 503", "GET <url> answered <n>"),
    ("ada@example.org bounced", "<email> bounced"),
    ("No such file: /tmp/a b", "No such file: <path> b"),
    ("No such file: ./data/in.csv", "No such file: <path>"),
    (r"No such file: C:\data\in.csv", "No such file: <path>"),
    ("yes and/or no", "yes and/or no"),
    ("not before 2030-01-31T08:00:00.123Z", "not before <time>"),
    ("not before 2030-01-31 08:00", "not before <time>"),
    ("closed at 08:00:01", "closed at <time>"),
    ("line one\n  line   two", "line one line two"),
)


@pytest.mark.parametrize(("message", "wanted"), EXAMPLES)
def test_a_message_without_its_values(message: str, wanted: str) -> None:
    assert normalised(message) == wanted


def test_failures_are_alike_if_type_code_and_normalised_message_are() -> None:
    group = error_group_of("mail", "timeout", "no answer after 30 s")
    assert group == error_group_of("mail", "timeout", "no answer after 45 s")
    assert len(group) == 16
    assert set(group) <= set(string.hexdigits)
    others = {
        error_group_of("report", "timeout", "no answer after 30 s"),
        error_group_of("mail", "refused", "no answer after 30 s"),
        error_group_of("mail", "timeout", "no answer"),
        error_group_of("mail", None, None),
    }
    assert len(others) == 4
    assert group not in others
    assert error_group_of("mail", None, None) == error_group_of("mail", "", "")


@given(st.text(max_size=3000), st.text(max_size=20))
def test_any_message_has_a_group_and_a_short_normal_form(message: str, code: str) -> None:
    assert len(normalised(message)) <= 400
    assert error_group_of("t", code, message) == error_group_of("t", code, message)


@given(st.integers(min_value=0), st.integers(min_value=0), st.uuids(), st.uuids())
def test_numbers_and_ids_do_not_separate_failures(n: int, m: int, one: object, other: object) -> None:
    assert normalised(f"row {n} of {one}") == normalised(f"row {m} of {other}")


@pytest.mark.parametrize(
    "part", ["a", "-", "0", "a0", "0a-", "a.", "a@", "'", "/", "::", "1:", "x://", "0x", "1.", " a"]
)
def test_a_hostile_message_is_read_in_time(part: str) -> None:
    """It would not end if a pattern went back and forth in it."""
    assert len(normalised(part * 100_000 + "!")) <= 400
