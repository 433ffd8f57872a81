"""How many WebSockets of users a process serves, and how many whose user it does not know yet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from celeriac_api.access.limits import OpenCounts, network_of
from celeriac_api.http.problems import RequestError


class Connections:
    """Counts the WebSockets of each user and of all users, and separately those of each address without a user."""

    def __init__(self, *, most: int, most_per_user: int, most_unproven: int) -> None:
        self._most = most
        self._of_user = OpenCounts(most_per_user)
        self._unproven = OpenCounts(most_unproven)
        self.count = 0

    @contextmanager
    def unproven(self, address: str) -> Iterator[None]:
        """Count one that has not shown its token, while the block runs; raises `RequestError` at the limit.

        Strangers take places from each other, not from users.
        """
        network = network_of(address)
        if not self._unproven.enter(network):
            raise RequestError(
                "too_many_connections",
                f"the server waits for the tokens of {self._unproven.limit} other connections from your address"
                " (setting server.max_unproven_per_address): come back in a few seconds",
            )
        try:
            yield
        finally:
            self._unproven.leave(network)

    @contextmanager
    def of_user(self, user_id: str) -> Iterator[None]:
        """Count one of a user while the block runs; raises `RequestError` at the limit."""
        if self.count >= self._most or not self._of_user.enter(user_id):
            raise RequestError("too_many_connections", "there are too many connections: close one")
        self.count += 1
        try:
            yield
        finally:
            self.count -= 1
            self._of_user.leave(user_id)
