"""`celeriac login`, `logout` and `profiles`: the servers that commands go to, and the tokens for them."""

from __future__ import annotations

import asyncio
import getpass
import sys
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from celeriac.cli import completing
from celeriac.cli.options import Json
from celeriac.cli.output import print_json, print_line
from celeriac.cli.reach.profiles import Profile, check_name, read_profiles, write_profiles
from celeriac.cli.tables import print_table
from celeriac.errors import ApiError, SettingsError

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="The profile.", show_default=False, autocompletion=completing.profiles)
]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command(rich_help_panel="Access")(login)
    app.command(rich_help_panel="Access")(logout)
    several = typer.Typer()
    several.callback(invoke_without_command=True)(profiles)
    several.command()(use)
    app.add_typer(several, name="profiles", rich_help_panel="Access")


def login(
    url: Annotated[str, typer.Argument(metavar="URL", help="The server: https://tasks.example.", show_default=False)],
    token: Annotated[
        str | None,
        typer.Option("--token", metavar="TOKEN", help="The token or API key.", show_default="read from standard input"),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option("--profile", metavar="NAME", help="What to call the server.", show_default="its host"),
    ] = None,
) -> None:
    """Remember a server and the token for it, once the server has accepted the token.

    The first server is the one that commands go to if nothing runs here; `celeriac profiles use` chooses another.

    For example:  celeriac login https://tasks.example < token.txt
    """
    from celeriac.client.address import address_of

    address = address_of(url, token)
    parts = urlsplit(address.url)
    name = check_name(profile or f"{parts.hostname}{'' if parts.port is None else f':{parts.port}'}")
    if token is None and not asyncio.run(_accepts(address.url, None)):
        token = _read_token()
    if token is not None and not asyncio.run(_accepts(address.url, token)):
        raise SettingsError(f"{address.url} refuses this token: ask for a new one (nothing was stored)")
    known = read_profiles().with_profile(name, Profile(address.url, token))
    write_profiles(known)
    asked = "" if token is not None else ", which asks for no token"
    chosen = " It is the default." if known.default == name else f" Choose it with --profile {name}."
    print_line(f"logged in to {address.url}{asked}: this is the profile {name}.{chosen}")


def logout(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]", help="The profile.", show_default="the default one", autocompletion=completing.profiles
        ),
    ] = None,
) -> None:
    """Forget a server and the token for it. The token stays valid until it expires or is revoked."""
    known = read_profiles()
    chosen = name or known.default
    if chosen is None:
        raise SettingsError("there is no default profile: name one (`celeriac profiles` lists them)")
    left = known.without(chosen)
    write_profiles(left)
    more = "; choose a default with `celeriac profiles use NAME`" if left.by_name and left.default is None else ""
    print_line(f"logged out of {chosen}{more}")


def profiles(ctx: typer.Context, as_json: Json = False) -> None:
    """List the servers that you logged in to, without their tokens; `use` chooses the default one."""
    if ctx.invoked_subcommand is not None:
        return
    known = read_profiles()
    found: list[dict[str, Any]] = [
        {"name": name, "url": profile.url, "token": profile.token is not None, "default": name == known.default}
        for name, profile in known.by_name.items()
    ]
    if as_json:
        for one in found:
            print_json(one, one_line=True)
        return
    print_table(
        ("NAME", "URL", "TOKEN", "DEFAULT"),
        [(one["name"], one["url"], "yes" if one["token"] else "no", "*" if one["default"] else "") for one in found],
        empty="there are no profiles: make one with `celeriac login URL`",
    )


def use(name: Name) -> None:
    """Make a profile the default one: commands go there if nothing runs here."""
    known = read_profiles()
    chosen = known.named(name)
    write_profiles(known.with_default(name))
    print_line(f"commands go to {chosen.url} if nothing runs here")


def _read_token() -> str:
    """Return the token from standard input; on a terminal it is not shown."""
    text = getpass.getpass("Token: ") if sys.stdin.isatty() else sys.stdin.readline()
    if not text.strip():
        raise SettingsError("the server asks for a token: give --token, or write the token to standard input")
    return text.strip()


async def _accepts(url: str, token: str | None) -> bool:
    """Return whether the server at `url` knows a caller with this token; raises `ApiError` if it is not Celeriac."""
    from celeriac.cli.reach.http.calls import Server
    from celeriac.client.address import Address

    server = Server(Address(url, token))
    try:
        await server.listing("/groups", "groups")
    except ApiError as exc:
        if exc.code == "unauthenticated":
            return False
        # A credential that may not read is a credential all the same.
        if exc.code != "forbidden":
            raise ApiError(f"{url}: {exc.detail}", status=exc.status, code=exc.code) from exc
    finally:
        await server.close()
    return True
