"""Generate the Python code of every `.proto` file, or with `--check` compare it with the committed code.

protobuf registers a descriptor under its file's path below the import root. Another program may compile the same
file itself; to live in one process with our code, it has to register the same name. So the import root is not
`proto` but the folder below which each file has the name of its contract: `grpc_task/v1/task.proto` and
`task.proto`. protoc then writes imports as if those were top-level modules, and this tool rewrites these lines to
`celeriac_proto.…`.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent / "proto" / "celeriac_proto"
SUFFIXES = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py")
#: Import roots below `ROOT`, the deepest first.
IMPORT_ROOTS = ("task", "")
_FOREIGN_IMPORT = re.compile(r"^from (?!google\.|celeriac_proto\.)([\w.]+) import (\w+_pb2)\b", re.MULTILINE)
_TOP_LEVEL_IMPORT = re.compile(r"^import (\w+_pb2) as", re.MULTILINE)


def generate(root: Path, out: Path) -> list[Path]:
    """Write the code of every `.proto` below `root` to `out`; return the paths of the files, relative to `out`."""
    protos = {path.relative_to(root) for path in root.rglob("*.proto")}
    written: list[Path] = []
    for folder in IMPORT_ROOTS:
        mine = sorted(path for path in protos if path.is_relative_to(folder))
        protos -= set(mine)
        (out / folder).mkdir(exist_ok=True)
        command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{root / folder}"]
        command += [f"--{plugin}_out={out / folder}" for plugin in ("python", "pyi", "grpc_python")]
        subprocess.run([*command, *(str(path.relative_to(folder)) for path in mine)], check=True)  # noqa: S603 - ours
        written += [proto.with_name(proto.stem + suffix) for proto in mine for suffix in SUFFIXES]
    found = [name for name in written if (out / name).is_file()]
    for name in found:
        text = _FOREIGN_IMPORT.sub(r"from celeriac_proto.\1 import \2", (out / name).read_text(encoding="utf-8"))
        package = ".".join(["celeriac_proto", *name.parent.parts])
        (out / name).write_text(_TOP_LEVEL_IMPORT.sub(rf"from {package} import \1 as", text), encoding="utf-8")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Generate or compare; return 1 if committed code differs from the code that its `.proto` gives."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="compare only; exit with 1 if code is stale")
    if not parser.parse_args(arguments).check:
        for name in generate(ROOT, ROOT):
            print(ROOT / name)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        expected = generate(ROOT, fresh)
        stale = [n for n in expected if not (ROOT / n).is_file() or (ROOT / n).read_bytes() != (fresh / n).read_bytes()]
    orphans = sorted(
        path.relative_to(ROOT)
        for suffix in SUFFIXES
        for path in ROOT.rglob(f"*{suffix}")
        if path.relative_to(ROOT) not in expected
    )
    for name in [*stale, *orphans]:
        print(f"stale: {ROOT / name} (run `make proto`)", file=sys.stderr)
    return 1 if stale or orphans else 0


if __name__ == "__main__":
    sys.exit(main())
