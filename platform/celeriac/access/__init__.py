"""Who is calling, and what they may do: principals, tokens, API keys. No front door in here."""

from celeriac.access.principal import LOCAL, Kind, Principal, Scope

__all__ = ["LOCAL", "Kind", "Principal", "Scope"]
