"""From `pip install` to the first result of a task of one's own: how long, how large, how many packages?

Builds the wheel, installs it with each extra into a fresh environment, makes a project with `celeriac init`, and runs
it. Then it counts the CPU time of what a program imports, beside `import httpx, pydantic` in the same environment. It
needs a package index; pip's cache counts, so the first run on a machine shows what a download costs.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from figures import Figure, figure, table, write_json

REPOSITORY: Final = Path(__file__).parents[1]
#: The extras of each install; the second one runs the project.
INSTALLS: Final = ("", "server", "server,files", "all")
YARDSTICK: Final = "import httpx, pydantic"
PROGRAMS: Final = {
    YARDSTICK: ("-c", YARDSTICK),
    "import celeriac": ("-c", "import celeriac"),
    "a module of task types": ("-c", "from celeriac import Context, task"),
    "a web application": ("-c", "from celeriac import Client, Context, task"),
    "a remote worker": ("-c", "from celeriac import RemoteWorker"),
    "celeriac --version": ("-m", "celeriac", "--version"),
    "celeriac --help": ("-m", "celeriac", "--help"),
}
_READY_S: Final = 60.0


def main() -> None:
    """Measure and print; `--json FILE` writes the figures too."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="runs of each program whose imports are measured")
    parser.add_argument("--json", metavar="FILE", help="write the figures to FILE, - for standard output")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="celeriac-installing-") as name:
        folder = Path(name)
        wheel = build(folder)
        installs = {extras or "(none)": install(wheel, folder / (extras or "base"), extras) for extras in INSTALLS}
        print(table(("extras", "packages", "MB", "seconds"), [_row(name, one) for name, one in installs.items()]))
        first_s, steps = first_result(folder / "server", folder / "project")
        total_s = installs["server"]["seconds"] + first_s
        print(
            f"\nfrom pip install to the first result: {steps + 1} commands, {total_s:.1f} s, {first_s:.1f} s after pip"
        )
        imports = measured_imports(folder / "base" / "bin" / "python", options.rounds)
        print("\nCPU time beyond that of an empty program, in a base install:")
        print(table(("program", "ms", f"times {YARDSTICK}"), list(_import_rows(imports))))
        if options.json:
            document = {
                "installs": installs,
                "first_result_s": first_s,
                "imports_ms": {name: one.as_json() for name, one in imports.items()},
            }
            write_json(options.json, "installing", document)


def build(folder: Path) -> Path:
    """Build the wheel of the working copy; return its path."""
    _run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder), cwd=REPOSITORY)
    return next(folder.glob("*.whl"))


def install(wheel: Path, folder: Path, extras: str) -> dict[str, Any]:
    """Install the wheel into a new environment; return seconds, packages and size in bytes, pip itself left out."""
    _run(sys.executable, "-m", "venv", "--without-pip", str(folder))
    wanted = f"{wheel}[{extras}]" if extras else str(wheel)
    before = time.perf_counter()
    _run(sys.executable, "-m", "pip", "--python", str(folder), "install", "--quiet", wanted)
    seconds = time.perf_counter() - before
    packages = next(folder.glob("lib/python*/site-packages"))
    size = sum(path.stat().st_size for path in packages.rglob("*") if path.is_file())
    return {"seconds": seconds, "packages": len(list(packages.glob("*.dist-info"))), "bytes": size}


def first_result(environment: Path, project: Path) -> tuple[float, int]:
    """Make a project, run it, and submit its task; return the seconds to the result and the number of commands."""
    celeriac = str(environment / "bin" / "celeriac")
    before = time.perf_counter()
    _run(celeriac, "init", str(project))
    with _running(celeriac, project):
        _run(str(environment / "bin" / "python"), "mytasks.py", cwd=project)
        return time.perf_counter() - before, 3


@contextmanager
def _running(celeriac: str, project: Path) -> Iterator[None]:
    """Run `celeriac up` in a project, from when it is ready."""
    output = project / "up.log"
    with output.open("w") as file:
        process = subprocess.Popen(
            (celeriac, "up", "--port", "0", "--grpc-port", "0"),
            cwd=project, env=_environment(), stdout=file, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + _READY_S
        while not (project / ".celeriac" / "run.json").exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"celeriac up did not start:\n{output.read_text()}")
            time.sleep(0.02)
        yield
    finally:
        process.terminate()
        process.wait(30)


def measured_imports(python: Path, rounds: int) -> dict[str, Figure]:
    """Return the CPU time of each program beyond that of an empty one, in milliseconds; the programs take turns."""
    programs = {"": ("-c", "pass"), **PROGRAMS}
    for arguments in programs.values():  # compiled, and in the page cache
        _run(str(python), *arguments)
    rows = [{name: _cpu_ms(python, arguments) for name, arguments in programs.items()} for _ in range(rounds)]
    return {name: figure(row[name] - row[""] for row in rows) for name in PROGRAMS}


def _cpu_ms(python: Path, arguments: tuple[str, ...]) -> float:
    def used() -> float:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return (children.ru_utime + children.ru_stime) * 1000

    before = used()
    _run(str(python), *arguments)
    return used() - before


def _row(name: str, one: dict[str, Any]) -> tuple[str, ...]:
    return name, str(one["packages"]), f"{one['bytes'] / 1e6:.0f}", f"{one['seconds']:.1f}"


def _import_rows(imports: dict[str, Figure]) -> Iterator[tuple[str, ...]]:
    for name, one in imports.items():
        yield name, one.text(), f"{one.median / imports[YARDSTICK].median:.2f}"


def _environment() -> dict[str, str]:
    return {
        name: text for name, text in os.environ.items() if not name.startswith(("CELERIAC_", "REDIS_", "DATABASE_"))
    }


def _run(*command: str, cwd: Path | None = None) -> None:
    """Run a command to its end; exits with its output if it fails."""
    ended = subprocess.run(command, cwd=cwd, env=_environment(), capture_output=True, text=True, check=False)
    if ended.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{ended.stdout}{ended.stderr}")


if __name__ == "__main__":
    main()
