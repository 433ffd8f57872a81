"""`celeriac doctor`: check every dependency, setting and clock, and advise what to do.

Each check is a function that yields findings. A check that fails is a finding too. Nothing is changed.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Final

from celeriac.database.engine import shown
from celeriac.errors import CeleriacError, HistoryUnavailableError
from celeriac.history.history import History
from celeriac.model import WorkerInfo
from celeriac.outbox.reports import read_reports
from celeriac.schedules.definition import Definition, DefinitionStatus
from celeriac.schedules.sql.definitions import DefinitionTable
from celeriac.settings import Settings
from celeriac.settings.executor_address import ExecutorAddress, read_address
from celeriac.store.counts import read_state
from celeriac.store.server.answers import is_demoted
from celeriac.store.server.facts import read_server_facts
from celeriac.store.takers import read_takers
from celeriac.store.task_store import TaskStore
from celeriac.store.unknown_tasks import unknown_tasks
from celeriac.store.waits import unknown_types
from celeriac.store.watching.feed import EventFeed
from celeriac.tasks.warnings import warnings_of
from celeriac.up.findings import Finding, failure, ok, warning
from celeriac.up.ports import is_loopback
from celeriac.up.replication import replication, sentinels

#: Longest wait for anything (seconds).
_PATIENCE_S: Final = 3.0
#: Difference of clocks that is reported (seconds): records have the store's times, which then confuse people.
_CLOCK_S: Final = 2.0
#: An answer of the store that takes longer than this slows each submission down noticeably (seconds).
_SLOW_S: Final = 0.02
#: A task that has waited longer than this is reported (seconds).
_OLD_S: Final = 300.0
#: At most this many groups are reported, those with the most waiting tasks.
_GROUPS_TOLD: Final = 20
#: A relay of an outbox that has said nothing for so long is gone, and a row that is older than this is late (ms).
_UNRELAYED_MS: Final = 60_000
_LATE_MS: Final = 60_000
#: A finding names this many definitions; this many pages of so many of the newest active ones are looked at.
_NAMES_TOLD: Final = 5
_PAGES_READ: Final = 20
_PAGE: Final = 500
#: How many open files a thousand connections and tasks need.
_OPEN_FILES: Final = 4096
#: Records should be compact up to values of this length, as `celeriac up` and `deploy/` set it.
_COMPACT_BYTES: Final = 1024
_FREE_BYTES: Final = 1024**3


#: Checks one part.
Check = Callable[[Settings, TaskStore], AsyncIterator[Finding]]


async def examine(settings: Settings, redis_url: str, *, quick: bool = False) -> AsyncIterator[Finding]:
    """Yield the findings, part by part. `quick` only checks whether store and history answer, for health checks."""
    store = TaskStore(redis_url, settings.store, patience_s=0)
    checks: list[Check] = [_store, _history]
    if not quick:
        checks += [
            replication,
            *([sentinels] if store.address.sentinels else []),
            _work,
            _definitions,
            _outboxes,
            _files,
            _executors,
            _access,
            _machine,
        ]
    try:
        for check in checks:
            try:
                async with asyncio.timeout(_PATIENCE_S * 3):
                    async for finding in check(settings, store):
                        yield finding
            except TimeoutError:
                yield failure(_subject(check), f"no answer within {_PATIENCE_S * 3:g} s", "check its log and its load")
            except CeleriacError as exc:
                demoted = check is _store and is_demoted(exc)
                advice = _PRIMARY if demoted else _ADVICE.get(_subject(check), "see above")
                yield failure(_subject(check), str(exc), advice)
    finally:
        await store.stop()


_PRIMARY: Final = "set REDIS_URL to the primary: a replica accepts no tasks"
_ADVICE: Final = {
    "store": "start the server, or correct REDIS_URL",
    "replication": "mend the store first",
    "work": "mend the store first",
    "history": "start the database, or correct DATABASE_URL; `celeriac migrate` makes the tables",
}


def _subject(check: Check) -> str:
    return check.__name__.removeprefix("_")


async def _store(settings: Settings, store: TaskStore) -> AsyncIterator[Finding]:
    facts = await read_server_facts(store)
    yield ok("store", f"{facts.kind} {facts.version} answers in {facts.answer_s * 1000:.1f} ms")
    if facts.role != "master":
        yield failure("store", f"the server is a {facts.role}", _PRIMARY)
    if facts.eviction != "noeviction":
        yield failure(
            "store",
            f"maxmemory-policy is {facts.eviction}: the server may delete accepted tasks",
            "run CONFIG SET maxmemory-policy noeviction, and set it in its configuration file too",
        )
    if not facts.append_only:
        yield warning(
            "store",
            "there is no append-only file: accepted tasks are lost when the server dies",
            "run CONFIG SET appendonly yes, and set it in its configuration file too",
        )
    elif facts.append_fsync == "no" and Path(facts.folder) == settings.data_dir.resolve() / "valkey":
        yield ok("store", "append-only file on, synced to the disk every second by `celeriac up`")
    elif facts.append_fsync == "no":
        yield warning(
            "store", "appendfsync is `no`: the kernel decides when to write", "run CONFIG SET appendfsync everysec"
        )
    else:
        yield ok("store", f"append-only file on, appendfsync {facts.append_fsync}")
    if facts.compact_bytes is not None and facts.compact_bytes < _COMPACT_BYTES:
        yield warning(
            "store",
            f"a record with a value above {facts.compact_bytes} bytes, such as a payload, takes twice the memory",
            f"run CONFIG SET hash-max-listpack-value {_COMPACT_BYTES}, and set it in its configuration file too",
        )
    if not facts.last_write_ok:
        yield failure("store", "its last write to disk failed", "check its log: the disk may be full")
    if facts.max_memory_bytes and facts.memory_bytes > 0.8 * facts.max_memory_bytes:
        yield warning(
            "store",
            f"{facts.memory_bytes / facts.max_memory_bytes:.0%} of maxmemory is used; at 100 % no tasks are accepted",
            "give it more memory, or shorten `retention`",
        )
    if facts.answer_s > _SLOW_S:
        yield warning("store", f"a call takes {facts.answer_s * 1000:.0f} ms", "move it nearer, or check its load")
    if abs(facts.clock_ahead_s) > _CLOCK_S:
        direction = "ahead of" if facts.clock_ahead_s > 0 else "behind"
        yield warning(
            "clock",
            f"this machine's clock is {abs(facts.clock_ahead_s):.1f} s {direction} the store's, which sets all times",
            "turn on NTP on both machines",
        )
    else:
        yield ok("clock", "agrees with the store's")


async def _history(settings: Settings, store: TaskStore) -> AsyncIterator[Finding]:
    history = History(settings.history_url, statement_timeout_s=settings.ledger.statement_timeout)
    try:
        await history.check()
        searches = await history.searches()
    finally:
        await history.stop()
    yield ok("history", history.url)
    if settings.ledger.search and not searches:
        yield warning(
            "history",
            "this SQLite has no FTS5, so a search finds words in ids and errors only",
            "use a Python with FTS5 before the database is made, or PostgreSQL; `ledger.search: []` says that you know",
        )
    if history.url.startswith("sqlite") and not is_loopback(settings.host):
        yield warning(
            "history",
            "SQLite cannot be shared by processes on other machines, and this server listens for those",
            "set DATABASE_URL to a PostgreSQL server",
        )


async def _work(settings: Settings, store: TaskStore) -> AsyncIterator[Finding]:
    workers = await store.workers()
    state = await read_state(store)
    if not workers:
        waiting = sum(group.waiting for group in state.groups.values())
        yield (failure if waiting else warning)(
            "work", f"no worker is running; {waiting} tasks wait", "start `celeriac worker`"
        )
    else:
        yield ok(
            "work",
            f"workers: {len(workers)}; running tasks: {sum(group.running for group in state.groups.values())}",
        )
    most_first = sorted(state.groups.items(), key=lambda pair: -pair[1].waiting)
    for name, group in most_first[:_GROUPS_TOLD]:
        if workers and group.unserved:
            yield failure(
                "work",
                f"{group.unserved} tasks wait in {name!r}, which no worker serves",
                f"start `celeriac worker --groups {name}` (for tasks of type remote: a remote worker)",
            )
        elif group.waiting and group.age_s > _OLD_S:
            yield warning(
                "work",
                f"the first of {group.waiting} tasks in {name!r} has waited for {group.age_s:.0f} s",
                "start more workers, or check whether the group is paused (`celeriac groups`)",
            )
    busy = [name for name, group in most_first[:_GROUPS_TOLD] if group.waiting]
    async for finding in _unknown_types(store, busy, workers):
        yield finding
    lag = await EventFeed(store, consumer="").lag()
    if not lag.recording:
        yield warning("beat", "history has never been recorded", "start `celeriac beat`")
    elif lag.seconds > _OLD_S:
        yield warning(
            "beat",
            f"history lacks {lag.entries} events, the oldest {lag.seconds:.0f} s old",
            "start `celeriac beat`",
        )
    else:
        yield ok("beat", f"history lacks {lag.entries} events")


async def _unknown_types(
    store: TaskStore, groups: Sequence[str], workers: Sequence[WorkerInfo]
) -> AsyncIterator[Finding]:
    """Yield which types tasks have that no worker of their group knows, or that came to one that does not."""
    told: set[tuple[str, str]] = set()
    for group in groups:
        for task_type, count in sorted((await unknown_types(store, group, workers)).items()):
            told.add((task_type, group))
            yield failure(
                "work",
                f"{count} tasks of type {task_type!r} wait in {group!r}, and no worker of the group knows this type",
                "import its module in the workers that serve the group, or start a worker that does",
            )
    for task_type, where in await unknown_tasks(store):
        if (task_type, where) not in told:
            yield warning(
                "work",
                f"a task of type {task_type!r} in {where!r} came to a worker that does not know this type",
                "start a worker that imports it for this group, or import its module in the workers that serve the"
                " group",
            )


async def _definitions(settings: Settings, store: TaskStore) -> AsyncIterator[Finding]:
    """Yield which definitions make tasks that no worker takes."""
    takers = await read_takers(store)
    refused: dict[str, list[str]] = {}
    async for one in _active_definitions(settings):
        run = one.spec.run
        if not run.get("awaits"):
            for warned in warnings_of(takers, one.group, str(run["type"]), str(run["delivery"])):
                refused.setdefault(warned.text, []).append(one.name or one.definition_id)
    for text, names in list(refused.items())[:_GROUPS_TOLD]:
        shown = ", ".join(repr(name) for name in names[:_NAMES_TOLD])
        more = f" and {len(names) - _NAMES_TOLD} more" if len(names) > _NAMES_TOLD else ""
        yield warning(
            "definitions",
            f"the definition {shown}{more} makes tasks that nobody takes: {text}",
            "start a worker that serves the group and imports the type, or edit the definition",
        )


async def _active_definitions(settings: Settings) -> AsyncIterator[Definition]:
    history = History(settings.history_url, statement_timeout_s=settings.ledger.statement_timeout)
    try:
        try:
            await history.check()
        except HistoryUnavailableError:
            return  # the check of history says that
        table = DefinitionTable(history.engine, page_bytes=settings.max_page_bytes)
        cursor: str | None = None
        for _ in range(_PAGES_READ):
            page = await table.find(statuses=(DefinitionStatus.ACTIVE,), limit=_PAGE, cursor=cursor)
            for definition in page.definitions:
                yield definition
            cursor = page.next_cursor
            if cursor is None:
                return
    finally:
        await history.stop()


async def _outboxes(settings: Settings, store: TaskStore) -> AsyncIterator[Finding]:
    reports = {report.name: report for report in await read_reports(store)}
    for name in sorted({*reports, *map(shown, settings.outbox.databases)}):
        report = reports.get(name)
        if report is None or report.age_ms > _UNRELAYED_MS:
            yield failure(
                "outboxes", f"no process relays the outbox of {name}", "start `celeriac worker` or `celeriac beat`"
            )
        elif report.standing.refused:
            yield failure(
                "outboxes",
                f"{report.standing.refused} tasks in the outbox of {name} are refused: {report.standing.problem}",
                "correct what is said, or delete these rows of celeriac_outbox",
            )
        elif report.lag_ms > _LATE_MS:
            yield warning(
                "outboxes",
                f"the first of {report.standing.rows} tasks in the outbox of {name} has waited for"
                f" {report.lag_ms / 1000:.0f} s",
                "look into the logs of workers and beats",
            )
        else:
            yield ok("outboxes", f"{name}: {report.standing.rows} tasks wait")


async def _files(settings: Settings, store: TaskStore) -> AsyncIterator[Finding]:
    if settings.files.storage_url is not None:
        yield ok("files", f"in {settings.files.storage_url}")
    for name, folder in (("storage", settings.files.storage_path), ("uploads", settings.upload_folder())):
        existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
        try:
            with tempfile.TemporaryFile(dir=existing):
                pass
        except OSError as exc:
            yield failure(
                "files", f"{name}: {folder} cannot be written: {exc.strerror}", "change its owner, or its setting"
            )
            continue
        free = shutil.disk_usage(existing).free
        if free < _FREE_BYTES:
            yield warning("files", f"{name}: {free / 1024**2:.0f} MiB are free at {existing}", "free some space")
        else:
            yield ok("files", f"{name}: {folder}, {free / 1024**3:.0f} GiB free")
    if _device(settings.files.storage_path) != _device(settings.upload_folder()):
        yield warning(
            "files",
            "uploads and storage are on different filesystems: each handoff copies the file",
            "set files.upload_path to a folder next to files.storage_path",
        )


def _device(folder: Path) -> int:
    return next(path.stat().st_dev for path in (folder.absolute(), *folder.absolute().parents) if path.exists())


async def _executors(settings: Settings, store: TaskStore) -> AsyncIterator[Finding]:
    for name, service in sorted(settings.grpc_services.services.items()):
        try:
            async with asyncio.timeout(_PATIENCE_S):
                asked = await _connect(read_address(service.address))
        except (OSError, TimeoutError) as exc:
            why = str(exc) or "no answer"
            yield warning(
                "executors", f"{name}: nothing listens at {service.address} ({why})", "start it, or correct its address"
            )
        else:
            answer = "accepts connections" if asked else "can only be read by gRPC, and was not tried"
            yield ok("executors", f"{name}: {service.address} {answer}")


async def _connect(address: ExecutorAddress) -> bool:
    """Connect to every place that an address names; returns False if only gRPC can read it."""
    for host, port in address.hosts:
        _, writer = await asyncio.open_connection(host, port)
        writer.close()
    if address.path is not None:
        _, writer = await asyncio.open_unix_connection(address.path)
        writer.close()
    return bool(address.hosts or address.path)


async def _access(settings: Settings, store: TaskStore) -> AsyncIterator[Finding]:
    access = settings.access
    if access.on:
        yield ok("access", "callers must authenticate")
    elif is_loopback(settings.host):
        yield ok("access", f"no authentication; only this machine can reach {settings.host}")
    else:
        yield failure("access", f"other machines can reach {settings.host} without authentication", "set JWT_SECRET")
    secret = access.jwt_secret.get_secret_value() if access.jwt_secret else ""
    if secret and len(secret.encode()) < 32:
        yield warning("access", "JWT_SECRET is shorter than 32 bytes", "use the output of `openssl rand -hex 32`")
    if access.on and access.tls is None and not is_loopback(settings.host):
        yield warning(
            "access", "tokens are sent without TLS", "set access.tls, or let only a TLS proxy reach this address"
        )


async def _machine(settings: Settings, store: TaskStore) -> AsyncIterator[Finding]:
    if sys.platform != "win32":
        import resource

        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft < _OPEN_FILES:
            yield warning(
                "machine", f"{soft} open files are allowed", f"run `ulimit -n {_OPEN_FILES}` or more before the start"
            )
        else:
            yield ok("machine", f"{soft} open files are allowed")
    yield ok("machine", f"Python {sys.version.split()[0]} on {socket.gethostname()}")
