"""Profiles: servers that a user has logged in to, with their tokens, in a file that only this user may read.

The file is `$XDG_CONFIG_HOME/celeriac/profiles.yaml` (default: `~/.config/celeriac/profiles.yaml`):

    default: production
    profiles:
      production: {url: https://tasks.example, token: …}
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from celeriac.errors import SettingsError
from celeriac.installation.private_file import make_private_folder, write_private

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}")


@dataclass(frozen=True, slots=True)
class Profile:
    """A server. `token` is None if it asks for none."""

    url: str
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Profiles:
    """All profiles by name, and the name of the default one; None if there is none."""

    by_name: Mapping[str, Profile] = field(default_factory=dict)
    default: str | None = None

    def named(self, name: str) -> Profile:
        """Return a profile; raises `SettingsError` if there is none of this name."""
        if name in self.by_name:
            return self.by_name[name]
        known = f"the profiles are: {', '.join(self.by_name)}" if self.by_name else "make one with `celeriac login URL`"
        raise SettingsError(f"there is no profile {name[:100]!r}; {known}")

    def token_of(self, url: str) -> str | None:
        """Return the token of the profile with this URL, None if there is none."""
        return next((profile.token for profile in self.by_name.values() if profile.url == url.rstrip("/")), None)

    def with_profile(self, name: str, profile: Profile) -> Profiles:
        """Return the same with a profile added or replaced. The first one is the default."""
        return replace(self, by_name={**self.by_name, name: profile}, default=self.default or name)

    def with_default(self, name: str) -> Profiles:
        """Return the same with another default; raises `SettingsError` if there is no profile of this name."""
        self.named(name)
        return replace(self, default=name)

    def without(self, name: str) -> Profiles:
        """Return the same without a profile; raises `SettingsError` if there is none of this name."""
        self.named(name)
        others = {known: profile for known, profile in self.by_name.items() if known != name}
        return Profiles(others, None if self.default == name else self.default)


def check_name(name: str) -> str:
    """Return the name of a profile; raises `SettingsError` for one that cannot be one."""
    if _NAME.fullmatch(name) is None:
        raise SettingsError(f"{name[:100]!r} is not the name of a profile: write letters, digits, dots, dashes, colons")
    return name


def profiles_path() -> Path:
    """Return where the profiles are."""
    # As the XDG base directory specification has it: a path that is not absolute is ignored.
    named = os.environ.get("XDG_CONFIG_HOME", "")
    base = Path(named) if named.startswith("/") else Path("~/.config").expanduser()
    return base / "celeriac" / "profiles.yaml"


def read_profiles() -> Profiles:
    """Return the profiles; raises `SettingsError` if the file cannot be read."""
    path = profiles_path()
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return Profiles()
    except (OSError, ValueError) as exc:
        raise SettingsError(f"{path} cannot be read: {exc}") from exc
    # Imported here: most commands have no profile.
    import yaml

    try:
        return _profiles_of(yaml.safe_load(text) or {})
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as exc:
        raise SettingsError(f"{path} is not a file of profiles: correct it, or remove it and log in again") from exc


def write_profiles(profiles: Profiles) -> None:
    """Put the profiles in place of the file, atomically and readable by their owner only."""
    import yaml

    path = profiles_path()
    make_private_folder(path.parent)
    written = {
        name: {"url": profile.url} | ({} if profile.token is None else {"token": profile.token})
        for name, profile in profiles.by_name.items()
    }
    write_private(path, yaml.safe_dump({"default": profiles.default, "profiles": written}, sort_keys=False))


def _profiles_of(document: Mapping[str, Any]) -> Profiles:
    """Return the profiles of a document; raises `KeyError`, `TypeError` or `AttributeError` for any other."""
    by_name = {
        str(name): Profile(str(about["url"]), None if about.get("token") is None else str(about["token"]))
        for name, about in (document.get("profiles") or {}).items()
    }
    default = document.get("default")
    return Profiles(by_name, default if default in by_name else None)
