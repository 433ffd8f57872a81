"""A reader who does, page by page, what the documentation says."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Iterator
from pathlib import Path

from celeriac.errors import CeleriacError
from celeriac.installation.run_file import read_installation
from celeriac.settings import load_settings
from tests.kit.command_line import REPOSITORY
from tests.kit.docs.notebook import Notebook
from tests.kit.docs.pages import Block
from tests.kit.docs.terminal import Terminal
from tests.kit.servers import free_port
from tests.kit.waiting import PATIENCE_S

#: The id of a task or a definition; that of an API key, in the key.
_ID = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|(?<=\bcel_)\w{12}(?=_)")
_UP = re.compile(r"(\w+=\S+ )*celeriac up\b")
#: A program that goes on: the next command is typed in another terminal.
_GOES_ON = re.compile(
    r"(\w+=\S+ )*(celeriac (up|api|worker|beat|remote-worker)|celery -A \S+ (worker|beat)|uvicorn)\b"
    r"|.*  # .*\bterminal\b"
)
_PRINTED = re.compile(r"^ *print\(.*\)  # (.+)$", re.MULTILINE)


class Reader:
    """Someone with an empty folder, a terminal, and a `make up` that runs already, on `make_up`.

    What a page calls `redis://localhost:6379/0` is `redis`. If a page writes a `celeriac.yaml`, or sets a secret, its
    `celeriac up` starts a platform of its own.
    """

    def __init__(self, terminal: Terminal, *, make_up: Path, redis: str, notebook: Notebook | None = None) -> None:
        """With a `notebook`, programs are its cells, one after another."""
        self._terminal = terminal
        self._notebook = notebook
        self._folder = terminal.folder
        self._data_dir = make_up
        self._redis = redis
        #: What the page calls `ID`, `TASK_ID`, `FILE_ID`: what was printed last.
        self._ids: dict[str, str] = {}
        #: What stands in for the ports that the page names.
        self._ports: dict[str, int] = {}
        self._waits_for_others = False
        self._look_at_platform()

    def read(self, blocks: list[Block]) -> None:
        """Do what all blocks of a page say, one after another."""
        blocks = [block for block in blocks if block.not_run is None]
        for block in blocks:
            self._write(block)
        for place, block in enumerate(blocks):
            try:
                self._read(block)
            except (AssertionError, CeleriacError) as exc:
                raise AssertionError(f"line {block.line}: {exc}\n{self._other_terminals()}") from None
            rest = " ".join(later.text for later in blocks[place + 1 :])
            assert _is_used(block.name, rest), f"line {block.line}: nothing on the page uses {block.name}"
        assert "Traceback" not in self._other_terminals(), self._other_terminals()

    def _read(self, block: Block) -> None:
        self._write(block)
        if block.language == "yaml":
            path = self._folder / (block.name or "settings-of-the-page.yaml")
            path.write_text(block.text)
            load_settings(path, environ={})
        elif block.language == "sh":
            failed = [command for command in _commands(block.text) if not self._command(command, block)]
            assert bool(failed) == bool(block.fails), f"nothing of this failed: {block.text}"
        elif block.name is None:
            self._python(block)

    def _write(self, block: Block) -> None:
        """Write the file that a block shows, if it names one."""
        if block.name is not None:
            path = self._folder / block.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self._here(block.text))

    def _python(self, block: Block) -> None:
        if self._notebook is not None:
            said = self._notebook.run(block.text)
        else:
            program = self._folder / "program_of_the_page.py"
            program.write_text(self._here(block.text))
            code, said = self._do(f"python {program.name}")
            assert code == 0, said
        rest = said
        for printed in _PRINTED.findall(block.text):
            found = re.search("(?m)^" + ".*?".join(re.escape(part) for part in printed.split("…")), rest)
            assert found, f"this was to be printed: {printed}\nand this was printed:\n{said}"
            rest = rest[found.end() :]

    def _command(self, command: str, block: Block) -> bool:
        """Run a command of a shell; return whether it went well. Raises `AssertionError` where it had to."""
        if _GOES_ON.match(command):
            self._begin(command)
            return True
        deadline = time.monotonic() + PATIENCE_S
        code, said = self._do(command)
        # What was begun in another terminal may need a moment.
        while code and self._waits_for_others and not block.fails and time.monotonic() < deadline:
            time.sleep(0.2)
            code, said = self._do(command)
        assert code == 0 or block.fails, f"{command}: exit code {code}: {said}"
        return code == 0

    def _begin(self, command: str) -> None:
        """Run a program in another terminal."""
        up = _UP.match(command)
        if up and not self._has_its_own_platform():
            return
        command = re.sub(r" +# .*", "", command)
        if "celeriac api" in command:
            command += f" --port {free_port()} --grpc-port {free_port()}"
        if not up:
            self._waits_for_others = True
            self._terminal.start(self._here(command))
            return
        self._do("unset CELERIAC_DATA_DIR")
        log = self._terminal.start(f"{self._here(command)} --port 0 --grpc-port 0")
        deadline = time.monotonic() + PATIENCE_S
        while "is ready." not in log.read_text():
            assert time.monotonic() < deadline, f"{command} does not become ready"
            time.sleep(0.05)
        self._data_dir = self._folder / ".celeriac"
        self._look_at_platform()

    def _has_its_own_platform(self) -> bool:
        _, secret = self._do("echo $JWT_SECRET")
        return bool(secret) or (self._folder / "celeriac.yaml").exists()

    def _look_at_platform(self) -> None:
        running = read_installation(self._data_dir)
        assert running is not None
        self._http, self._grpc = running.http, running.grpc.rpartition("/")[2]
        self._terminal.run(f"export TASK_GRPC_PORT={self._grpc.rpartition(':')[2]}")
        if self._data_dir.parent != self._folder:
            self._terminal.run(f"export CELERIAC_DATA_DIR={self._data_dir}")

    def _do(self, command: str) -> tuple[int, str]:
        code, said = self._terminal.run(self._here(command))
        for name in ("task_id", "file_id"):
            if found := re.findall(rf'"{name}": ?"([^"]+)"', said):
                self._ids[name.upper()] = found[-1]
        if found := _ID.findall(said):
            self._ids["ID"] = found[-1]
        return code, said

    def _here(self, text: str) -> str:
        """Return a text with the addresses, ids and folders of here."""
        text = text.replace(".venv/bin/", "").replace("0.0.0.0", "127.0.0.1")
        text = re.sub(r"(?<=[ @])/(tmp|backups)/", f"{self._folder}/", text)
        text = re.sub(r"(?<=[ ])examples/", f"{REPOSITORY}/examples/", text)
        text = re.sub(r"redis://localhost:6379/\d", self._redis, text)
        text = re.sub(r"http://(127\.0\.0\.1|localhost):8000", self._http, text).replace("127.0.0.1:50050", self._grpc)
        for port in re.findall(r"--port (\d+)\b", text):
            self._ports.setdefault(port, free_port())
        replaced = {**self._ids, **{port: str(ours) for port, ours in self._ports.items()}}
        for name, value in replaced.items():
            text = re.sub(rf"\b{name}\b", value, text)
        return text

    def _other_terminals(self) -> str:
        return "\n".join(f"--- in another terminal:\n{log.read_text()[-3000:]}" for log in self._terminal.logs)


def _commands(text: str) -> Iterator[str]:
    """Yield the commands of a block: a line, or several that belong together."""
    command = ""
    for line in text.splitlines():
        command += line + "\n"
        try:
            words = shlex.split(command, comments=True)
        except ValueError:
            continue  # a quotation goes on
        if line.endswith("\\"):
            continue
        if words:
            yield command.rstrip("\n")
        command = ""
    assert not command, f"this does not end: {command}"


def _is_used(name: str | None, rest: str) -> bool:
    """Return whether what follows uses the file; pytest finds tests by itself."""
    path = Path(name or "")
    if path.suffix != ".py":
        return True
    if re.fullmatch(r"conftest|test_\w+", path.stem):
        return "pytest" in rest
    return bool(re.search(rf"\b{path.stem}\b", rest))
