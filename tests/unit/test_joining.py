from __future__ import annotations

import os
from pathlib import Path

import pytest

from celeriac.errors import SettingsError
from celeriac.installation.discovery import NoInstallationError, joined_settings
from celeriac.installation.run_file import Installation, write_installation


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REDIS_URL", "REDIS_ADDR", "DATABASE_URL", "CELERIAC_CONFIG", "CELERIAC_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def running(tmp_path: Path) -> Path:
    """A data folder on which `up` runs with a configuration of its own."""
    data_dir = tmp_path / ".celeriac"
    data_dir.mkdir()
    config = tmp_path / "elsewhere.yaml"
    config.write_text("lease: 33s\ndata_dir: /not/this/one\n")
    installation = Installation(
        http="http://127.0.0.1:8000",
        grpc="grpc://127.0.0.1:50050",
        redis="redis://:pw@127.0.0.1:6390/0",
        database="sqlite:////x/celeriac.db",
        version="0.1.0",
        pid=os.getpid(),
        started_at="",
        config=str(config),
    )
    write_installation(data_dir, installation)
    return data_dir


def test_a_running_up_is_joined_with_its_addresses_and_its_configuration(running: Path) -> None:
    settings, url = joined_settings(None, None)
    assert url == settings.redis_url == "redis://:pw@127.0.0.1:6390/0"
    assert settings.database_url == "sqlite:////x/celeriac.db"
    assert settings.lease == 33
    assert settings.data_dir == Path(".celeriac")


def test_what_is_set_wins_over_what_runs(running: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://other/0")
    (tmp_path / "mine.yaml").write_text("lease: 44s")
    settings, url = joined_settings(Path("mine.yaml"), running)
    assert (url, settings.lease) == ("redis://other/0", 44)


def test_without_anything_it_is_said_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"`celeriac up`.*nowhere.*--data-dir.*REDIS_URL"):
        joined_settings(None, tmp_path / "nowhere")


def test_an_up_of_a_parent_folder_is_joined_from_below(
    running: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    below = tmp_path / "src" / "shop"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    settings, url = joined_settings(None, None)
    assert (url, settings.lease) == ("redis://:pw@127.0.0.1:6390/0", 33)
    assert settings.data_dir == running
    # A store that is set has nothing to do with what runs above, and a folder that is named is the only one.
    monkeypatch.setenv("REDIS_URL", "redis://other/0")
    settings, url = joined_settings(None, None)
    assert (url, settings.lease, settings.data_dir) == ("redis://other/0", 15, Path(".celeriac"))
    monkeypatch.delenv("REDIS_URL")
    with pytest.raises(NoInstallationError):
        joined_settings(None, Path(".celeriac"))


def test_the_nearest_data_folder_counts_although_nothing_runs_on_it(
    running: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    below = tmp_path / "other"
    (below / ".celeriac").mkdir(parents=True)
    (below / "src").mkdir()
    monkeypatch.chdir(below / "src")
    with pytest.raises(NoInstallationError, match=r"other/\.celeriac"):
        joined_settings(None, None)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_the_folder_of_another_user_does_not_count(
    running: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.chown(running, 65534, 65534)
    below = tmp_path / "src"
    below.mkdir()
    monkeypatch.chdir(below)
    with pytest.raises(NoInstallationError):
        joined_settings(None, None)
