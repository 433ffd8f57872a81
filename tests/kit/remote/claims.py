"""Claims of a gateway, as it makes them itself."""

from __future__ import annotations

from collections.abc import Sequence

from celeriac.store.remote import Grants, RemoteTasks


async def claim_next(remote: RemoteTasks, group: str, workers: Sequence[str], *, twice: bool = False) -> Grants:
    """Claim the next tasks of a group, one for each of `workers`; `twice`: the first answer gets lost."""
    offer = remote.offer(group)
    offer.workers.extend(workers)
    reply = await remote.claim(offer)
    if twice:
        reply = await remote.claim(offer)
    return remote.read_grants(offer.number, reply)
