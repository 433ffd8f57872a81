"""What the doctor asks about the store's replicas, and about the Sentinels that choose the primary among them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Final

from celeriac.settings import Settings
from celeriac.store.server.facts import Replication, read_replication
from celeriac.store.server.sentinel_facts import NamedServer, SentinelFacts, ask_sentinels, reach
from celeriac.store.task_store import TaskStore
from celeriac.up.findings import Finding, failure, ok, warning

#: A replica that is further behind is reported (seconds).
_LAG_S: Final = 10
#: With fewer Sentinels, no failover happens when one machine dies.
_FEWEST_SENTINELS: Final = 3
#: Most servers and Sentinels that are tried.
_TRIED: Final = 20
_ANNOUNCE: Final = (
    "let it announce an address that every machine reaches (replica-announce-ip and -port of a server, sentinel"
    " announce-ip and -port of a Sentinel), or open the network"
)


async def replication(settings: Settings, store: TaskStore) -> AsyncIterator[Finding]:
    """Yield how the replicas follow, and what the primary does when they do not."""
    found = await read_replication(store)
    watched = bool(store.address.sentinels)
    if watched and not found.lags_s:
        yield failure(
            "replication",
            "no replica follows the primary, so nothing takes its place",
            "start one with replicaof, and check its log and masterauth",
        )
    for finding in _lag(found):
        yield finding
    if watched and found.least_replicas == 0:
        yield warning(
            "replication",
            "min-replicas-to-write is 0: a primary that is cut off still accepts tasks, and the failover loses them",
            "run CONFIG SET min-replicas-to-write 1 and CONFIG SET min-replicas-max-lag 10 on each server, and set both"
            " in their configuration files too",
        )
    elif found.least_replicas > len(found.lags_s):
        yield failure(
            "replication",
            f"min-replicas-to-write is {found.least_replicas} and {len(found.lags_s)} follow: tasks are refused",
            "start the replicas that are missing",
        )
    elif found.least_replicas > 0:
        yield ok("replication", f"min-replicas-to-write is {found.least_replicas}")


def _lag(found: Replication) -> Iterator[Finding]:
    late = [place for place, lag_s in found.lags_s.items() if lag_s > _LAG_S]
    if late:
        yield warning(
            "replication",
            f"{', '.join(sorted(late))} is more than {_LAG_S} s behind the primary",
            "check its load, its disk and the network: a failover to it loses what it does not have",
        )
    elif found.lags_s:
        yield ok(
            "replication",
            f"replicas: {len(found.lags_s)}; the last one is {found.behind_bytes} bytes behind the primary",
        )


async def sentinels(settings: Settings, store: TaskStore) -> AsyncIterator[Finding]:
    """Yield what the Sentinels say, and which of the addresses that they give cannot be reached from here."""
    answers = await asyncio.to_thread(ask_sentinels, store.address)
    for finding in _answers(answers):
        yield finding
    named = {(one.role, one.place): one for facts in answers for one in facts.named}
    tried = sorted(named.values(), key=lambda one: (one.role, one.place))[:_TRIED]
    problems = await asyncio.gather(*(asyncio.to_thread(reach, store.address, one) for one in tried))
    for one, problem in zip(tried, problems, strict=True):
        if problem:
            yield _unreached(one, problem)
    if tried and not any(problems):
        yield ok("sentinels", f"every address that they give can be reached from here ({len(tried)})")


def _answers(answers: Sequence[SentinelFacts]) -> Iterator[Finding]:
    for facts in answers:
        shown = _shown(facts.place)
        if facts.problem:
            yield warning("sentinels", f"{shown} cannot be asked: {facts.problem}", "start it, or correct REDIS_URL")
        elif not facts.quorum.startswith("OK"):
            yield failure(
                "sentinels",
                f"{shown} says that no failover can happen: {facts.quorum}",
                "start the Sentinels that are missing, or let them reach each other",
            )
    asked = [facts for facts in answers if not facts.problem]
    if not asked:
        return
    primaries = {one.place for facts in asked for one in facts.named if one.role == "primary"}
    if len(primaries) > 1:
        yield warning(
            "sentinels",
            f"they disagree about the primary: {', '.join(map(_shown, sorted(primaries)))}",
            "wait until the failover is over; if they still disagree, check the network between them",
        )
    count = max(sum(one.role == "sentinel" for one in facts.named) for facts in asked) + 1
    if count < _FEWEST_SENTINELS:
        yield warning(
            "sentinels",
            f"{count} watch the store: when one dies, the others cannot be a majority, so no failover happens",
            "run three or more, each on a machine of its own",
        )
    else:
        yield ok("sentinels", f"{count} watch {_shown(sorted(primaries)[0])}")


def _unreached(one: NamedServer, problem: str) -> Finding:
    shown = f"the {one.role} {_shown(one.place)}"
    if one.down:
        return warning("sentinels", f"{shown} is down", "start it again")
    return failure("sentinels", f"{shown} cannot be reached from here: {problem}", _ANNOUNCE)


def _shown(place: tuple[str, int]) -> str:
    host, port = place
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
