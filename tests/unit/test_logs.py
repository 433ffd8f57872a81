from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import orjson
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from celeriac.logs import configure_logging, hide_secrets
from celeriac.safe_text import redact
from celeriac.store.task_store import log_data_text

TASK = "1ce9a18f-6be8-4eb8-a457-408492f4b84f"


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def _lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_json_lines_of_structlog_and_of_the_standard_library_look_alike(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(level="info", form="json", role="worker")
    structlog.contextvars.bind_contextvars(task_id="t-1")
    structlog.get_logger("celeriac.test").info("started", attempt=2)
    logging.getLogger("some.library").warning("slow: %s ms", 12)
    ours, theirs = _lines(capsys)
    assert (ours["event"], ours["attempt"], ours["task_id"], ours["role"]) == ("started", 2, "t-1", "worker")
    assert (theirs["event"], theirs["level"], theirs["task_id"]) == ("slow: 12 ms", "warning", "t-1")
    assert set(theirs) <= set(ours)


def test_off_a_terminal_the_automatic_format_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(level="info", form="auto", role="api")
    logging.getLogger("a").info("x")
    assert _lines(capsys)[0]["event"] == "x"


def test_the_level_holds_and_chatty_libraries_are_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(level="warning", form="json", role="api")
    structlog.get_logger("a").info("no")
    configure_logging(level="info", form="json", role="api")
    logging.getLogger("uvicorn.access").info("no")
    logging.getLogger("a").info("yes")
    assert [line["event"] for line in _lines(capsys)] == ["yes"]


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_secrets_are_taken_out_wherever_they_stand(capsys: pytest.CaptureFixture[str], log_format: str) -> None:
    configure_logging(level="info", form=log_format, role="api")
    log = structlog.get_logger("a")
    log.info("a", redis_password="hunter2", headers={"Authorization": "hunter2"})
    log.info("b", url="redis://:hunter2@127.0.0.1:6390/0")
    logging.getLogger("library").info("connecting to amqp://me:%s@rabbit//", "hunter2")
    hunter2 = "hunter2"
    try:
        raise ConnectionError(f"cannot reach redis://:{hunter2}@127.0.0.1/0")
    except ConnectionError:
        log.exception("c")
    written = capsys.readouterr().err
    assert "hunter2" not in written
    assert "ConnectionError" in written


def test_redaction_leaves_everything_else_alone() -> None:
    assert redact("see http://127.0.0.1:8000/docs and user@example.org") == (
        "see http://127.0.0.1:8000/docs and user@example.org"
    )
    assert redact("Authorization: Bearer abcdefghijk") == "Authorization: Bearer ***"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("password=hunter2", "password=***"),
        ("db_password=hunter2&user=me", "db_password=***&user=me"),
        ('password="my secret pass" user=me', 'password="***" user=me'),
        ("login(password='a,b&c', user=me)", "login(password='***', user=me)"),
        ("authorization=Basic dXNlcjpodW50ZXIy", "authorization=***"),
        ("API_KEY=abc, secret-key=def; accessToken=ghi", "API_KEY=***, secret-key=***; accessToken=***"),
        ("bEARer abcdefghijk", "bEARer ***"),
        (r'{"said":"password=\"a b\" here"}', r'{"said":"password=\"***\" here"}'),
        ('{"password=":1}', '{"password=":1}'),
        ("max_tokens=512 prompt_tokens=3 tokenizer=bert", "max_tokens=512 prompt_tokens=3 tokenizer=bert"),
        ("secretary=Ann a=b ==", "secretary=Ann a=b =="),
    ],
)
def test_secrets_that_a_text_gives_by_name_are_taken_out_whole_and_nothing_else_is(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_numbers_of_tokens_are_no_secrets() -> None:
    event = {"max_tokens": 512, "token": "abc", "password": 1234, "usage": {"prompt_tokens": 3, "api_token": "x"}}
    assert hide_secrets(None, "info", event) == {
        "max_tokens": 512, "token": "***", "password": "***", "usage": {"prompt_tokens": 3, "api_token": "***"}
    }  # fmt: skip


#: Texts that look like what is redacted, and what JSON escapes.
_TRICKY = st.lists(
    st.sampled_from(["password=", "token=", "://a:", "@", "Bearer ", "abcdefghij", '"', "'", "\\", " ", ",", "}", "é"])
).map("".join)


@given(
    st.recursive(_TRICKY | st.integers() | st.none(), lambda inner: st.dictionaries(_TRICKY, inner) | st.lists(inner))
)
def test_what_is_redacted_stays_json(value: object) -> None:
    text = orjson.dumps({"x": value}).decode() if not _too_large(value) else "{}"
    assert isinstance(json.loads(redact(text)), dict)
    assert set(json.loads(log_data_text({"x": value, "y": 1}))) in ({"x", "y"}, {"left_out", "bytes"})


def _too_large(value: object) -> bool:
    try:
        orjson.dumps(value)
    except TypeError:
        return True
    return False


FORGED = "ready\nworker | 12:00:00 [error    ] forged\r\x1b[2J\x9b31m\x00\u2028\u202eend"


@pytest.mark.parametrize("where", ["event", "value", "argument", "exception"])
def test_no_text_makes_a_second_line_or_steers_the_terminal(where: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(level="info", form="console", role="worker")
    log = structlog.get_logger("test")
    if where == "event":
        log.info(FORGED)
    elif where == "value":
        log.info("said", text=FORGED, nested={"text": [FORGED]})
    elif where == "argument":
        logging.getLogger("test").info("said %s", FORGED)
    else:
        try:
            raise ValueError(FORGED)
        except ValueError:
            log.exception("failed")
    written = capsys.readouterr().err
    assert "forged" in written
    assert not any(character in written for character in "\r\x1b\x9b\x00\u2028\u202e")
    if where != "exception":
        assert written.count("\n") == 1
    else:
        # The lines of a traceback stay.
        assert "Traceback (most recent call last):\n" in written


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_line_is_bounded_whatever_a_task_raises(capsys: pytest.CaptureFixture[str], log_format: str) -> None:
    configure_logging(level="info", form=log_format, role="worker")
    long = "x" * 3_000_000
    try:
        raise ValueError(long)
    except ValueError as exc:
        logging.getLogger("a").exception("failed with %s", long, extra={"data": {"exc": repr(exc), "of": [long]}})
    printed = capsys.readouterr().err
    assert len(printed) < 600_000
    assert "more characters" in printed
    assert "ValueError" in printed


def test_people_see_the_short_id_of_a_task_and_machines_the_whole(capsys: pytest.CaptureFixture[str]) -> None:
    for form, seen in (("console", "1ce9a18f"), ("json", TASK)):
        configure_logging(level="info", form=form, role="worker")
        structlog.get_logger("a").info("hello", task_id=TASK)
        logging.getLogger("b").info("task %s: gone", TASK)
        written = capsys.readouterr().err
        assert written.count(seen) == 2
        assert (TASK in written) == (form == "json")
