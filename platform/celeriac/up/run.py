"""`celeriac up`: the whole platform on one machine, as children of one process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import ssl
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import celeriac
from celeriac.access.secret_file import secret_mark
from celeriac.errors import CeleriacError, SettingsError, StoreUnavailableError
from celeriac.execution.attempt import STOP_GRACE_S
from celeriac.installation.private_file import close_to_others, make_private_folder
from celeriac.installation.run_file import Installation, read_installation, remove_installation, write_installation
from celeriac.model import rfc3339
from celeriac.reload.file_watch import shown_files
from celeriac.reload.import_check import imports_command
from celeriac.reload.project_code import ProjectCode
from celeriac.settings import ServerTlsSettings, Settings
from celeriac.settings.store_address import masked
from celeriac.store.task_store import TaskStore
from celeriac.store.watching.shown_ends import ShownEnds
from celeriac.terminal.task_lines import TaskLines
from celeriac.up.child_output import Screen
from celeriac.up.children import (
    STORE,
    child_environment,
    executor_places,
    flower_environment,
    platform_commands,
    store_child,
    user_commands,
)
from celeriac.up.disk_sync import DiskSync
from celeriac.up.embedded import EmbeddedStore, PingAnswer
from celeriac.up.folder_lock import FolderLock
from celeriac.up.leftovers import MARK, end_leftovers
from celeriac.up.parent_tie import tie_by_kernel
from celeriac.up.ports import in_url, is_free, pick_port, reachable, refuse_open_address, with_port
from celeriac.up.ready_text import own_command, ready_text
from celeriac.up.supervisor import ChildSpec, Supervisor

T = TypeVar("T")

#: How long the store may take to write and end, after everything else has ended (seconds).
_STORE_STOP_S = 3.0
#: The part of `up.stop_timeout` that is reserved for the operator's own programs (seconds). It is at most a quarter of
#: it, and leaves workers the time that they need for `worker.shutdown_grace` and for giving tasks back.
_PROGRAMS_STOP_S = 2.0
_GIVE_BACK_S = STOP_GRACE_S + 1.0
#: The least time that any process gets (seconds).
_LEAST_STOP_S = 0.5
#: `up` gives up after the store has died this many times before its first answer.
_STORE_TRIES = 6
#: How often readiness is checked, and after how long a line tells what is still missing (seconds).
_LOOK_S, _PATIENCE_S = 0.1, 20.0

#: Programs that pass signals on (`timeout`, `make`, shells) send one Ctrl-C twice. Within this time (seconds), two are
#: one.
_DOUBLE_SIGNAL_S = 0.2


#: What earlier versions made in the data folder with the permissions of the umask.
_PRIVATE = ("celeriac.db*", "uploads", "up.lock", "valkey")


class Up:
    """One run of `celeriac up`.

    `config` is the configuration file in use, `insecure` lets an open address through, and `umask` is that of the
    operator's own programs (-1: that of this process). With `reread`, which reads the settings again, the processes are
    started anew when their code has changed, and everything is when the configuration has (`next_settings`).
    """

    def __init__(
        self,
        settings: Settings,
        *,
        config: Path | None,
        insecure: bool,
        screen: Screen,
        umask: int = -1,
        reread: Callable[[], Settings] | None = None,
    ) -> None:
        self._umask = umask
        #: What the next run is to use, because the configuration has changed.
        self.next_settings: Settings | None = None
        self._reread = reread
        refuse_open_address(settings.host, insecure=insecure, authenticated=settings.access.on)
        port = settings.port or _free_port(settings.host)
        self._settings = settings.model_copy(
            update={
                "port": port,
                "grpc_port": settings.grpc_port or _free_port(settings.host, but_not=port),
                "data_dir": _real(settings.data_dir),
            }
        )
        self._data_dir: Path = self._settings.data_dir
        self._config = _real(config) if config is not None else None
        self._screen = screen
        self._lines = TaskLines(
            partial(screen.line, "up"),
            most=settings.task_lines,
            as_json=settings.log_format == "json",
            colours=screen.colours,
        )
        self._supervisor = Supervisor(on_line=self._show, on_pids=self._write_run_file, on_imported=self._imported)
        self._stopping = asyncio.Event()
        self._asked_at = 0.0
        self._commands = platform_commands(self._settings, config=self._config, insecure=insecure)
        self._programs = user_commands(
            self._settings.up.processes, self._settings.grpc_services.services, taken={STORE, *self._commands}
        )
        self._code: ProjectCode
        self._embedded: EmbeddedStore | None = None
        self._disk_sync: DiskSync | None = None
        self._installation: Installation | None = None

    async def run(self) -> int:
        """Run until a signal asks to stop, and return the exit code.

        Raises `SettingsError` before anything is started, where the folder is in use, a port is
        taken or a setting makes no sense, and `StoreUnavailableError` where the store does not start.
        """
        if sys.platform == "win32":
            raise SettingsError("`celeriac up` needs Linux or macOS; run its parts one by one, with REDIS_URL set")
        with contextlib.ExitStack() as held:
            with _writing(self._data_dir):
                make_private_folder(self._data_dir)
                held.enter_context(FolderLock(self._data_dir))
                close_to_others(self._data_dir, _PRIVATE)
            previous = read_installation(self._data_dir)
            for pid in await end_leftovers(self._data_dir, previous.pids.values() if previous else ()):
                self._say(f"killed process {pid}, which an earlier run had left behind")
            self._check_ports()
            try:
                await self._run()
            finally:
                remove_installation(self._data_dir)
        return 0

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop_or_kill, number)
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # under nohup it stays ignored
            loop.add_signal_handler(signal.SIGHUP, self._stop_or_kill, signal.SIGHUP)
        await self._supervisor.start()
        background: list[asyncio.Task[None]] = []
        shown: ShownEnds | None = None
        try:
            database_url = self._settings.history_url
            environ = child_environment(
                self._settings,
                redis_url=self._address_of_store(),
                database_url=database_url,
                config=self._config,
                environ=os.environ,
                colours=self._screen.colours,
            )
            if not await self._can_be_imported(environ):
                return
            redis_url = environ["REDIS_URL"] = await self._start_store()
            if self._stopping.is_set():
                return
            store = TaskStore(redis_url, self._settings.store, patience_s=0)
            shown = ShownEnds(store=store, lines=self._lines)
            await shown.start()
            await self._migrate(database_url)
            self._installation = Installation(
                http=self._http,
                grpc=f"grpc{'s' if self._settings.access.tls else ''}://{self._url_host}:{self._settings.grpc_port}",
                redis=redis_url,
                database=database_url,
                version=celeriac.__version__,
                pid=os.getpid(),
                started_at=rfc3339(datetime.now(UTC)),
                config=None if self._config is None else str(self._config),
                storage=str(_real(self._settings.files.storage_path)),
                token_secret=secret_mark(self._settings.access),
            )
            self._write_run_file(self._supervisor.pids)
            for name, argv in {**self._commands, **self._programs}.items():
                own = environ
                if name == "flower":
                    with _writing(self._data_dir):
                        own = flower_environment(self._settings, self._data_dir, os.environ, environ)
                # These have an event loop of ours, which sends beats.
                limit_s = self._settings.up.stuck_after if name in ("api", "beat") else 0
                umask = self._umask if name in self._programs else -1
                reports = name in self._commands and name != "flower"
                self._supervisor.run(
                    ChildSpec(name, argv, own, stuck_after_s=limit_s, umask=umask, reports_imports=reports)
                )
            background += [
                asyncio.create_task(self._announce(redis_url), name="the look whether everything is ready"),
                asyncio.create_task(self._follow_code(), name="the look for changes"),
            ]
            for task in background:
                task.add_done_callback(self._ended_in_background)
            await self._stopping.wait()
        finally:
            for task in background:
                task.cancel()
            if shown is not None:
                await shown.stop()
            await self._stop_children()
            self._lines.close()

    @property
    def _http(self) -> str:
        scheme = "http" if self._settings.access.tls is None else "https"
        return f"{scheme}://{self._url_host}:{self._settings.port}"

    @property
    def _url_host(self) -> str:
        return in_url(reachable(self._settings.host))

    # --- the project's code

    async def _can_be_imported(self, environ: Mapping[str, str]) -> bool:
        """Import the project's modules before anything is started; returns False if this run is to end.

        Raises `SettingsError` if that fails; with `--reload`, waits until a change makes it possible.
        """
        modules = self._settings.imports
        # A configuration file that does not exist yet may appear.
        configuration = str(self._config or _real(Path("celeriac.yaml")))
        self._code = ProjectCode(
            imports_command(modules) if modules else None,
            environ=environ,
            configuration=[configuration],
            tie=tie_by_kernel(signal.SIGKILL),
        )
        said: str | None = None
        while (problem := await self._unless_stopping(self._code.check())) is not None:
            if self._reread is None:
                raise SettingsError(problem)
            if problem != said:
                said = problem
                self._say(f"{problem}: waiting for a change")
            changed = await self._unless_stopping(self._code.next_change())
            if changed is None or self._starts_anew(changed):
                return False
        return not self._stopping.is_set()

    async def _unless_stopping(self, work: Coroutine[Any, Any, T]) -> T | None:
        """Return what `work` does, None if a signal asks to stop first."""
        doing = asyncio.ensure_future(work)
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait([doing, stopping], return_when=asyncio.FIRST_COMPLETED)
            return doing.result() if doing.done() else None
        finally:
            stopping.cancel()
            if not doing.done():
                doing.cancel()
                await asyncio.wait([doing])

    def _imported(self, file: str, began: float) -> None:
        self._code.add([file], began)

    async def _follow_code(self) -> None:
        """Say when files have changed, and with `--reload` start what is made of them anew."""
        while True:
            changed = await self._code.next_change()
            if self._reread is None:
                self._say(f"{shown_files(changed)} changed: restart `celeriac up` to use it, or start it with --reload")
            elif self._starts_anew(changed):
                return
            elif changed != changed & self._code.configuration or not changed:
                await self._reload(changed)

    def _starts_anew(self, changed: set[str]) -> bool:
        """End this run if the configuration has changed to one that can be used; returns whether it has."""
        if self._reread is None or not changed & self._code.configuration:
            return False
        name = shown_files(changed & self._code.configuration)
        try:
            self.next_settings = self._reread()
        except CeleriacError as exc:
            self._say(f"{name} changed: {exc}: the previous configuration stays in use")
            return False
        self._say(f"{name} changed: starting everything anew")
        self._stopping.set()
        return True

    async def _reload(self, changed: set[str]) -> None:
        """Start the platform's own processes anew, unless the project cannot be imported as it is now."""
        before = self._code.problem
        problem = await self._code.check()
        if problem is not None:
            if problem != before:
                self._say(f"{problem}: the previous code stays in use until the next change")
            return
        ours = [name for name in self._supervisor.names if name in self._commands and name != "flower"]
        what = shown_files(changed) if changed else "the code"
        self._say(f"{what} changed: starting {', '.join(ours)} anew")
        up = self._settings.up
        await self._supervisor.restart(ours, grace_s=up.reload_grace, timeout_s=up.stop_timeout)

    # --- the store

    def _address_of_store(self) -> str:
        """Return the URL of the configured store, or prepare the embedded one and return that of it."""
        if self._settings.redis_url is not None:
            return self._settings.redis_url
        store = self._embedded = EmbeddedStore(self._data_dir, durability=self._settings.durability)
        with _writing(self._data_dir):
            store.prepare()
        return store.url

    async def _start_store(self) -> str:
        """Return the URL of a store that serves: the configured one, or the embedded one, started here."""
        store = self._embedded
        if store is None:
            redis_url = str(self._settings.redis_url)
            async with TaskStore(redis_url, self._settings.store):
                return redis_url  # connecting to it has raised if it cannot be used
        self._supervisor.run(store_child(store, {**os.environ, MARK: str(self._data_dir)}))
        if not store.syncs:
            self._disk_sync = DiskSync(store=store, say=self._say)
            await self._disk_sync.start()
        clock = asyncio.get_running_loop().time
        said_at = clock()
        while not self._stopping.is_set() and (answer := await store.ping()) is not PingAnswer.PONG:
            if self._supervisor.deaths(STORE) >= _STORE_TRIES:
                raise StoreUnavailableError(
                    f"the embedded store does not start; its own messages are above, its files are in {store.folder}"
                )
            if STORE not in self._supervisor.pids and self._supervisor.deaths(STORE):
                # Another program may have taken its port before it started. No other process knows that port yet.
                store.prepare()
            if clock() - said_at > _PATIENCE_S:
                said_at = clock()
                doing = "reads its append-only file" if answer is PingAnswer.LOADING else "does not answer yet"
                self._say(f"waiting for the embedded store, which {doing}")
            await asyncio.sleep(0.01)
        return store.url

    async def _migrate(self, database_url: str) -> None:
        """Bring the tables of the history to this version; raises `SettingsError` and `HistoryUnavailableError`."""
        # Imported here, because other processes import this module too and should start fast.
        from celeriac.database.migrating import migrate

        before, after = await asyncio.to_thread(migrate, database_url)
        if before is not None and before != after:
            self._say(f"migrated the database from version {before} to {after}")

    async def _announce(self, redis_url: str) -> None:
        """Print the ready text once the API answers and one of our workers is registered."""
        assert self._installation is not None
        clock = asyncio.get_running_loop().time
        started, said = clock(), False
        store = TaskStore(redis_url, self._settings.store, patience_s=0)
        try:
            while missing := await self._missing(store):
                if not said and clock() - started > _PATIENCE_S:
                    said = True
                    self._say(f"not ready yet: {' and '.join(missing)}; still trying")
                await asyncio.sleep(_LOOK_S)
            types: dict[str, dict[str, Any]] = {}
            with contextlib.suppress(StoreUnavailableError):
                types = await store.task_types()
        finally:
            await store.stop()
        where = (
            _without_login(masked(redis_url))
            if self._embedded is None
            else f"embedded Valkey on 127.0.0.1:{self._embedded.port}, append-only file on"
        )
        self._installation = replace(self._installation, ready_at=rfc3339(datetime.now(UTC)))
        self._write_run_file(self._supervisor.pids)
        self._screen.block(
            "up", ready_text(self._installation, self._settings, store=where, types=types, command=own_command())
        )

    def _ended_in_background(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._say(f"{task.get_name()} failed: {error!r}")

    async def _missing(self, store: TaskStore) -> list[str]:
        missing = []
        host, port = reachable(self._settings.host), self._settings.port
        if not await answers_healthz(host, port, tls=self._settings.access.tls):
            missing.append(f"GET {self._http}/healthz does not answer")
        if self._settings.up.workers:
            # A worker of an earlier run that was just killed may still be registered: only our own count.
            own = set(self._supervisor.pids.values())
            try:
                workers = await store.workers()
            except StoreUnavailableError:
                workers = []
            if not any(worker.pid in own for worker in workers):
                missing.append("no worker has registered yet")
        return missing

    def _check_ports(self) -> None:
        host = self._settings.host
        wanted = {"--port": self._settings.port, "--grpc-port": self._settings.grpc_port}
        if self._settings.port == self._settings.grpc_port:
            raise SettingsError(f"--port and --grpc-port are both {self._settings.port}: choose two ports")
        if self._settings.up.flower:
            wanted["up.flower_port"] = self._settings.up.flower_port
        for option, port in wanted.items():
            try:
                free = is_free(host, port)
            except OSError as exc:
                raise SettingsError(
                    f"cannot listen on {with_port(host, port)} ({exc.strerror or exc}): correct {option}"
                ) from exc
            if not free:
                raise SettingsError(
                    f"port {port} on {host} is in use by another program: stop that program, or choose another port"
                    f" with {option}"
                )
        self._check_executor_ports()

    def _check_executor_ports(self) -> None:
        """Raise `SettingsError` if a program that `up` starts could not listen on its port.

        Otherwise `up` would start it again and again, and tasks would go to the program that has the port: usually the
        executor of another `up`.
        """
        for (host, port), (name, service) in executor_places(
            self._settings.up.processes, self._settings.grpc_services.services
        ).items():
            setting = f"grpc_services.services.{service}.address"
            try:
                free = is_free(host, port)
            except OSError as exc:
                raise SettingsError(
                    f"{name} cannot listen on {with_port(host, port)} ({exc.strerror or exc}): correct {setting}"
                ) from exc
            if not free:
                variable = f"CELERIAC_{setting.replace('.', '__').upper()}={with_port(host, pick_port(host))}"
                raise SettingsError(
                    f"port {port} on {host}, on which {name} is to listen, is in use by another program (perhaps of"
                    f" another `celeriac up`): stop that program, or give {service} another address ({setting}), such"
                    f" as {variable}"
                )

    def _stop_or_kill(self, number: signal.Signals) -> None:
        now = asyncio.get_running_loop().time()
        if not self._stopping.is_set():
            self._asked_at = now
            self._say(f"{signal.Signals(number).name}: stopping (a second signal kills at once)")
            self._stopping.set()
        elif now - self._asked_at > _DOUBLE_SIGNAL_S:
            self._say("killing all processes")
            self._supervisor.kill()

    async def _stop_children(self) -> None:
        clock = asyncio.get_running_loop().time
        limit_s = self._settings.up.stop_timeout
        stop_by = clock() + limit_s
        spare_s = limit_s - self._settings.worker.shutdown_grace - _GIVE_BACK_S
        kept_back_s = min(_PROGRAMS_STOP_S, limit_s / 4, max(spare_s, _LEAST_STOP_S)) if self._programs else 0.0
        ours = [name for name in self._supervisor.names if name in self._commands]
        await self._supervisor.stop(ours, timeout_s=limit_s - kept_back_s)
        # Only now, because they may be the executors of tasks that our workers ran until here.
        programs = [name for name in self._supervisor.names if name != STORE]
        await self._supervisor.stop(programs, timeout_s=max(stop_by - clock(), _LEAST_STOP_S))
        # The store is last: until then the others give back their tasks.
        await self._supervisor.stop(timeout_s=_STORE_STOP_S)
        if self._disk_sync is not None:
            await self._disk_sync.stop()
        if self._stopping.is_set() and self.next_settings is None:
            self._say("stopped")

    def _write_run_file(self, pids: dict[str, int]) -> None:
        if self._installation is None:
            return
        self._installation = replace(self._installation, pids=pids)
        try:
            write_installation(self._data_dir, self._installation)
        except OSError as exc:  # a full disk must not end everything
            self._say(f"cannot write run.json: {exc}")

    def _show(self, role: str, line: str) -> None:
        if role == STORE and "overcommit" in line:
            return  # a hint for stores that fork to save; ours appends, and forks only to rewrite its log
        self._screen.line(role, line)

    def _say(self, text: str) -> None:
        self._screen.line("up", text)


async def answers_healthz(
    host: str, port: int, *, timeout_s: float = 2.0, tls: ServerTlsSettings | None = None
) -> bool:
    """Return whether `GET /healthz` is answered 200; if clients need a certificate, whether anything listens there."""
    context: ssl.SSLContext | None = None
    if tls is not None:
        # This is our own server on this machine; its certificate is for another name.
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    request = f"GET /healthz HTTP/1.1\r\nHost: {in_url(host)}:{port}\r\nConnection: close\r\n\r\n"
    try:
        async with asyncio.timeout(timeout_s):
            if tls is not None and tls.client_ca_file is not None:
                _, writer = await asyncio.open_connection(host, port)
                writer.close()
                return True
            reader, writer = await asyncio.open_connection(host, port, ssl=context)
            try:
                writer.write(request.encode())
                status = await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError):
        return False
    return status.split(b" ", 2)[1:2] == [b"200"]


def _free_port(host: str, *, but_not: int = 0) -> int:
    try:
        return pick_port(host, but_not=but_not)
    except OSError:
        # Nothing can listen on this host. The check of the ports says so, with what to do.
        return pick_port(but_not=but_not)


def _real(path: Path) -> Path:
    """Return the path without links, as far as that is possible: the use of a loop of links says what is wrong."""
    return Path(os.path.realpath(path))


@contextlib.contextmanager
def _writing(data_dir: Path) -> Iterator[None]:
    """Raise an `OSError` of this block as a `SettingsError` about the data folder."""
    try:
        yield
    except OSError as exc:
        raise SettingsError(f"cannot use the data folder {data_dir} ({exc.strerror}): correct --data-dir") from exc


def _without_login(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
