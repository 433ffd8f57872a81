"""The tests in the sdist of the installed Celery."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path

#: The part of the sdist that is needed. Celery's code itself stays away: the installed one is tested.
_NEEDED = ("t/__init__.py", "t/skip.py", "t/canvas_helpers.py", "t/integration/", "pyproject.toml")


class NoSdistError(Exception):
    """pip could not download the sdist."""


def celerys_tests() -> Path:
    """Return the folder with `t/integration`; the first call for a version of Celery downloads it.

    Raises `NoSdistError` with what pip said.
    """
    release = f"celery-{version('celery')}"
    folder = _cache() / release
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        archive = _download(release, Path(scratch))
        unpacked = Path(scratch) / "unpacked"
        with tarfile.open(archive) as tar:
            wanted = tuple(f"{release}/{name}" for name in _NEEDED)
            tar.extractall(unpacked, [one for one in tar if one.name.startswith(wanted)], filter="data")
        try:
            (unpacked / release).rename(folder)
        except OSError:
            # Another process was faster.
            if not folder.is_dir():
                raise
    return folder


def _cache() -> Path:
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return caches / "celeriac" / "celery-suite"


def _download(release: str, folder: Path) -> Path:
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
        "--no-binary", "celery", "--dest", str(folder), release.replace("-", "=="),
    ]  # fmt: skip
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    found = list(folder.glob("*.tar.gz"))
    if done.returncode != 0 or not found:
        raise NoSdistError(f"pip cannot download the sdist of {release}: {done.stdout.strip()[-500:]}")
    return found[0]
