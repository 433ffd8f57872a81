"""Where a client looks for the API."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from celeriac.client.address import find_address
from celeriac.errors import SettingsError
from celeriac.installation.run_file import Installation, write_installation


def test_the_first_that_is_given_counts(tmp_path: Path) -> None:
    folder = {"CELERIAC_DATA_DIR": str(tmp_path)}
    assert find_address(None, None, folder).url == "http://127.0.0.1:8000"
    running = Installation("http://127.0.0.1:4711", "", "", "", "0", os.getpid(), "")
    write_installation(tmp_path, running)
    assert find_address(None, None, folder).url == "http://127.0.0.1:4711"
    chosen = {**folder, "CELERIAC_URL": "https://tasks.example/", "CELERIAC_TOKEN": "t"}
    assert find_address(None, None, chosen).url == "https://tasks.example"
    assert find_address("http://here:1/below/", None, chosen).url == "http://here:1/below"
    assert (find_address(None, None, chosen).token, find_address(None, "own", chosen).token) == ("t", "own")


def test_an_up_that_died_is_not_looked_for(tmp_path: Path) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    write_installation(tmp_path, Installation("http://127.0.0.1:4711", "", "", "", "0", dead.pid, ""))
    assert find_address(None, None, {"CELERIAC_DATA_DIR": str(tmp_path)}).url == "http://127.0.0.1:8000"


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://x", "http://", "http://x:99999", "http://x?a=1", "nonsense"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="http or https URL"):
        find_address(url, None, {})


@pytest.mark.parametrize(
    ("url", "near"),
    [
        ("http://localhost", True), ("http://127.3.2.1:80", True), ("http://[::1]:80", True),
        ("http://example.org", False), ("http://10.0.0.1", False),
    ],
)  # fmt: skip
def test_this_machine_is_known(url: str, near: bool) -> None:
    assert find_address(url, None, {}).loopback is near


def test_the_token_is_not_shown() -> None:
    assert "s3cret" not in repr(find_address("http://x", "s3cret", {}))


def test_an_up_of_a_parent_folder_is_found_from_below(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".celeriac").mkdir()
    write_installation(tmp_path / ".celeriac", Installation("http://127.0.0.1:4711", "", "", "", "0", os.getpid(), ""))
    (tmp_path / "src").mkdir()
    monkeypatch.chdir(tmp_path / "src")
    assert find_address(None, None, {}).url == "http://127.0.0.1:4711"
