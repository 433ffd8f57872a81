"""The environment, without what other programs put there: the service variables of Kubernetes and of Docker's links.

If a cluster has a service named `celeriac`, Kubernetes sets `CELERIAC_PORT=tcp://10.0.0.1:8000`,
`CELERIAC_SERVICE_HOST`, `CELERIAC_SERVICE_PORT_HTTP`, `CELERIAC_PORT_8000_TCP_ADDR` and more in every container of the
namespace. Docker sets similar ones for linked containers. None of them is a setting.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from celeriac.errors import SettingsError

#: Names that only a service variable has, whatever the value is.
_SERVICE_NAME: Final = re.compile(
    r".+_SERVICE_(?:HOST|PORT(?:_.+)?)|.+_PORT_[0-9]+_(?:TCP|UDP|SCTP)(?:_.+)?", re.IGNORECASE
)
#: The value of `NAME_PORT` of a service. A port that is set has digits only.
_SERVICE_PORT: Final = re.compile(r"\s*(?:tcp|udp|sctp)://", re.IGNORECASE)
#: The value of `ALIAS_NAME` of a linked container: `/web/db`.
_LINK_NAME: Final = re.compile(r"/[\w.-]+/[\w.-]+")


def without_service_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without variables of Kubernetes' services and Docker's links."""
    links = tuple(f"{alias}_ENV_" for name, text in environ.items() if (alias := _link_of(name, text)))
    return {name: text for name, text in environ.items() if not is_service_variable(name, text, links)}


def is_service_variable(name: str, text: str, links: tuple[str, ...] = ()) -> bool:
    """Return whether Kubernetes or Docker made this variable.

    `links` are how names of variables of linked containers begin.
    """
    if _SERVICE_NAME.fullmatch(name) or _link_of(name, text):
        return True
    if name.upper().endswith("_PORT") and _SERVICE_PORT.match(text):
        return True
    return bool(links) and name.startswith(links)


def refuse_foreign_bytes(name: str, text: str) -> str:
    """Return `text`; raises `SettingsError` if it has bytes that this process cannot read as text."""
    if has_foreign_bytes(text):
        raise SettingsError(f"{name} holds bytes that are not UTF-8 text: correct its value")
    return text


def has_foreign_bytes(text: str) -> bool:
    """Return whether a text of the operating system has bytes that were not text; Python reads them as surrogates."""
    return any("\ud800" <= character <= "\udfff" for character in text)


def _link_of(name: str, text: str) -> str | None:
    """Return the alias of a linked container if this is its variable `ALIAS_NAME`."""
    return name.removesuffix("_NAME") if name.endswith("_NAME") and _LINK_NAME.fullmatch(text) else None
