"""The Lua transitions, read from `lua/`, each with the shared part in front."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class Script:
    """One transition; `sha` is what EVALSHA takes."""

    name: str
    source: str
    sha: str


#: Files of `lua/` that are no transitions.
_OTHERS = {
    "shared.lua",
    "pop.lua",
    "feed_position.lua",
    "feed_note.lua",
    "feed_retire.lua",
    "sizes.lua",
    "open_feed.lua",
    "states.lua",
    "hold.lua",
    "previews.lua",
}


@cache
def every_transition() -> tuple[Script, ...]:
    """Return all transitions of `lua/`."""
    names = sorted(file.name for file in (files("celeriac.live") / "lua").iterdir() if file.name.endswith(".lua"))
    return tuple(script(name.removesuffix(".lua")) for name in names if name not in _OTHERS)


@cache
def script(name: str, *, transition: bool = True) -> Script:
    """Return the script `lua/NAME.lua`; a transition has the shared part in front."""
    folder = files("celeriac.live") / "lua"
    source = (folder / f"{name}.lua").read_text("utf-8")
    if transition:
        source = (folder / "shared.lua").read_text("utf-8") + "\n" + source
    return Script(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())
