"""Generate the blocking Python client from the asyncio client, or with `--check` compare it with the committed code.

The two clients differ only in words: `await x` becomes `x`, `AsyncClient` becomes `Client`, `__aenter__` becomes
`__enter__`. So this tool rewrites each file of `asynchronous/` word by word, with its comments and docstrings, and
formats it. mypy and the tests of both clients find the differences that a rewrite by words misses.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

CLIENT = Path(__file__).resolve().parent.parent / "platform" / "celeriac" / "client"
SOURCE = CLIENT / "asynchronous"
TARGET = CLIENT / "generated_blocking"

#: The first line of each generated file.
HEADER = (
    "# Generated from ../asynchronous/{name} by tools/generate_sync_client.py: edit that file and run `make client`.\n"
)

#: Regular expressions and their replacements, applied in this order.
REPLACEMENTS = (
    # Prose that differs between the two clients.
    (r"The client for asyncio, written by hand\. The blocking one is generated from these files: run `make client`\.",
     "The client for blocking code. These files are generated: edit `asynchronous/` and run `make client`."),
    (r"from one event loop", "from any number of threads"),
    (r"an `async with`", "a `with`"),
    # Names of the package, of the standard library and of httpx.
    (r"\bclient\.asynchronous\b", "client.generated_blocking"),
    (r"\bAbstractAsyncContextManager\b", "AbstractContextManager"),
    (r"\basynccontextmanager\b", "contextmanager"),
    (r"\b__a(enter|exit|iter|next)__\b", r"__\1__"),
    (r"\ba(close|closing|iter_bytes|next|read)\b", r"\1"),
    # `AsyncClient`, `AsyncIterator` and similar names lose the prefix.
    (r"\bAsync(?=[A-Z])", ""),
    # The keywords.
    (r"\b(?:async|await) ", ""),
)  # fmt: skip


def blocking(name: str, source: str) -> str:
    """Return the blocking code for the source of the file `name`."""
    for pattern, replacement in REPLACEMENTS:
        source = re.sub(pattern, replacement, source)
    source = HEADER.format(name=name) + source
    source = _ruff(["check", "--select", "I", "--fix", "--quiet"], name, source)  # two imports may have become one
    return _ruff(["format"], name, source)


def generate() -> dict[str, str]:
    """Return the text of each generated file, by file name."""
    return {path.name: blocking(path.name, path.read_text(encoding="utf-8")) for path in sorted(SOURCE.glob("*.py"))}


def stale(expected: dict[str, str], target: Path = TARGET) -> list[Path]:
    """Return the files of `target` that are missing, differ from the expected text, or should not exist."""
    found = {path.name: path.read_text(encoding="utf-8") for path in target.glob("*.py")}
    return [target / name for name in sorted({*expected, *found}) if expected.get(name) != found.get(name)]


def _ruff(command: list[str], name: str, source: str) -> str:
    """Run ruff on `source` as if it were a file of `TARGET`."""
    done = subprocess.run(  # noqa: S603 - our own command line
        [sys.executable, "-m", "ruff", *command, "--stdin-filename", str(TARGET / name), "-"],
        input=source, stdout=subprocess.PIPE, text=True, encoding="utf-8", check=True,
    )  # fmt: skip
    return done.stdout


def main(arguments: Sequence[str] | None = None) -> int:
    """Generate or compare; return 1 if the committed code differs from the generated code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="compare only; exit with 1 if generated code is stale")
    check = parser.parse_args(arguments).check
    expected = generate()
    differing = stale(expected)
    for path in differing:
        if check:
            print(f"stale: {path} (run `make client`)", file=sys.stderr)
        elif path.name in expected:
            TARGET.mkdir(exist_ok=True)
            path.write_text(expected[path.name], encoding="utf-8")
            print(path)
        else:
            path.unlink()
            print(f"removed {path}")
    return 1 if check and differing else 0


if __name__ == "__main__":
    sys.exit(main())
