from __future__ import annotations

import os
from pathlib import Path

import pytest

from celeriac.access.secret_file import secret_mark
from celeriac.cli.commands.access import _ttl_s, token
from celeriac.errors import SettingsError
from celeriac.installation.run_file import Installation, write_installation
from celeriac.settings import load_settings

SECRET = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("JWT_SECRET", "JWKS_URL", "CELERIAC_CONFIG", "CELERIAC_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / ".celeriac"
    folder.mkdir()
    return folder


def up_runs(folder: Path) -> None:
    """Write the run file of an `up` that was started with the environment as it is now."""
    write_installation(
        folder,
        Installation(
            http="http://127.0.0.1:8000",
            grpc="grpc://127.0.0.1:50050",
            redis="redis://127.0.0.1:6390/0",
            database="sqlite:////x/celeriac.db",
            version="0.1.0",
            pid=os.getpid(),
            started_at="",
            token_secret=secret_mark(load_settings(None, {}).access),
        ),
    )


def test_a_shell_without_the_secret_of_the_server_mints_no_token_that_it_refuses(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JWT_SECRET", SECRET)
    up_runs(folder)
    assert SECRET not in (folder / "run.json").read_text()
    token(user="7")
    assert capsys.readouterr().out.count(".") == 2

    monkeypatch.setenv("JWT_SECRET", SECRET[::-1])
    with pytest.raises(SettingsError, match="set JWT_SECRET here to the same value"):
        token(user="7")
    monkeypatch.delenv("JWT_SECRET")
    with pytest.raises(SettingsError, match="set JWT_SECRET here to the same value"):
        token(user="7")
    assert capsys.readouterr().out == ""


def test_a_secret_that_the_server_was_not_started_with_is_noticed_too(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    up_runs(folder)
    token(user="7")
    assert capsys.readouterr().out.count(".") == 2
    monkeypatch.setenv("JWT_SECRET", SECRET)
    with pytest.raises(SettingsError, match="was started without JWT_SECRET"):
        token(user="7")


@pytest.mark.parametrize("ttl", ["0s", "1h1d", "-5s", "37000d", "9" * 400 + "d", "1e308", "nan", "inf"])
def test_a_life_that_is_no_duration_is_refused(ttl: str) -> None:
    with pytest.raises(SettingsError, match="--ttl"):
        _ttl_s(ttl)
