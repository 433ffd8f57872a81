"""Environments with the built wheel and exactly the packages that pip would install with it, at no cost.

Nothing is downloaded: what the wheel requires, with the extras asked for, is followed through the metadata of the
packages that the tests run with, and only those packages are linked into the environment. A package that is needed but
not required is missing there, as it would be for a user.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from collections.abc import Iterable
from email.parser import HeaderParser
from importlib.metadata import distribution
from pathlib import Path
from zipfile import ZipFile

from packaging.requirements import Requirement

from tests.kit.command_line import REPOSITORY


def build(folder: Path) -> Path:
    """Build wheel and sdist of the working copy in `folder`; return the wheel."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(folder)],
        cwd=REPOSITORY, check=True, timeout=120, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    [wheel] = folder.glob("*.whl")
    return wheel


def install(wheel: Path, folder: Path, *, extras: Iterable[str] = (), also: Iterable[str] = ()) -> Path:
    """Make an environment with the wheel and its extras, and with the distributions `also`; return its `bin`."""
    venv.create(folder, with_pip=False)
    packages = next(folder.glob("lib/python*/site-packages"))
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(folder), "install", "--quiet", "--no-deps", str(wheel)],
        check=True, timeout=120,
    )  # fmt: skip
    for name in _closure([*requirements(wheel, extras), *map(Requirement, also)]):
        _link(name, packages)
    return folder / "bin"


def requirements(wheel: Path, extras: Iterable[str] = ()) -> list[Requirement]:
    """Return what the wheel requires here, its extras included."""
    archive = ZipFile(wheel)
    [metadata] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
    lines = HeaderParser().parsestr(archive.read(metadata).decode()).get_all("Requires-Dist") or []
    return _applying(lines, extras)


def _applying(lines: Iterable[str], extras: Iterable[str]) -> list[Requirement]:
    found = [Requirement(line) for line in lines]
    environments = [{"extra": extra} for extra in ("", *extras)]
    return [r for r in found if r.marker is None or any(r.marker.evaluate(one) for one in environments)]


def _closure(wanted: Iterable[Requirement]) -> list[str]:
    """Return the names of the distributions that are needed, each once."""
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = list(wanted)
    while waiting:
        requirement = waiting.pop()
        key = (requirement.name.lower(), frozenset(requirement.extras))
        if key not in seen:
            seen.add(key)
            waiting += _applying(distribution(requirement.name).requires or (), requirement.extras)
    return sorted({name for name, _ in seen})


def _link(name: str, packages: Path) -> None:
    """Link the modules and the metadata of an installed distribution into an environment."""
    for file in distribution(name).files or ():
        target = packages / file
        # Scripts and man pages are outside.
        if ".." in file.parts or target.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(Path(str(file.locate())).resolve())
