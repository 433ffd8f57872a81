"""How many WebSockets a process serves."""

from __future__ import annotations

from collections import Counter

from celeriac_api.http.problems import RequestError


class Connections:
    """Counts the WebSockets of each user and of all users."""

    def __init__(self, *, most: int, most_per_user: int) -> None:
        self._most = most
        self._most_per_user = most_per_user
        self._of_user: Counter[str] = Counter()
        self.count = 0

    def enter(self, user_id: str) -> None:
        """Count one more; raises `RequestError` at the limit."""
        if self.count >= self._most or self._of_user[user_id] >= self._most_per_user:
            raise RequestError("too_many_connections", "there are too many connections: close one")
        self._of_user[user_id] += 1
        self.count += 1

    def leave(self, user_id: str) -> None:
        """Count one less."""
        self.count -= 1
        self._of_user[user_id] -= 1
        if not self._of_user[user_id]:
            del self._of_user[user_id]
