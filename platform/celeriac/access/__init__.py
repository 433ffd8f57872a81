"""Who calls and what they may do: principals, tokens and API keys.

Front doors use this room; it contains none of them. What is specific to HTTP or gRPC is in `celeriac_api.access`.
"""

from celeriac.access.principal import LOCAL, Principal, PrincipalKind, Scope

__all__ = ["LOCAL", "Principal", "PrincipalKind", "Scope"]
