"""Turns a credential into its principal, for all front doors. An address with too many refused ones has to wait."""

from __future__ import annotations

from celeriac.access.authenticator import Authenticator
from celeriac.access.principal import Principal
from celeriac.errors import AuthenticationError
from celeriac_api.access.limits import Buckets, check_rate, network_of


class CredentialCheck:
    """Checks credentials for one process, and counts the refused credentials of each address."""

    def __init__(self, authenticator: Authenticator, *, failures_per_minute: int) -> None:
        self._authenticator = authenticator
        self._failures = Buckets(failures_per_minute / 60, failures_per_minute)

    async def principal(self, credential: str, address: str, *, counted: bool = True) -> Principal:
        """Return the principal of a credential. One that was verified recently is accepted whatever its address did.

        `counted` is false where a refused credential opens the same doors as none, so that nothing can be guessed.
        Raises `AuthenticationError`, `RateLimitedError`, and `StoreUnavailableError` for a key.
        """
        if (known := self._authenticator.remembered(credential)) is not None:
            return known
        if not counted:
            return await self._authenticator.principal(credential)
        # This comes first, so that an address that guesses does not learn which guess was right.
        network = network_of(address)
        check_rate(self._failures, network, "too many refused credentials from this address")
        refused = False
        try:
            return await self._authenticator.principal(credential)
        except AuthenticationError:
            refused = True
            raise
        finally:
            if not refused:
                self._failures.wait_s(network, -1.0)
