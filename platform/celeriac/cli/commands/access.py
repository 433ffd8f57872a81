"""`celeriac token` and `celeriac keys`: credentials for callers of the API."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from celeriac.access.principal import Scope
from celeriac.access.secret_file import OF_THE_FOLDER, secret_mark
from celeriac.cli.completing import key_ids
from celeriac.cli.ids import whole_key_id
from celeriac.cli.options import Config, DataDir, Json, anywhere, group_of, on_this_machine
from celeriac.cli.output import print_error, print_json, print_line
from celeriac.cli.reach.destination import Destination
from celeriac.cli.reach.platform import AnyPlatform, Record
from celeriac.cli.tables import print_table
from celeriac.cli.times import ago
from celeriac.errors import SettingsError
from celeriac.installation.discovery import nearest_data_dir
from celeriac.installation.run_file import find_installation
from celeriac.settings import Settings, config_path, load_settings, parse_duration_s
from celeriac.settings.values import MAX_DURATION_S

_PLAIN = (Scope.SUBMIT, Scope.READ)

Scopes = Annotated[
    list[str] | None,
    typer.Option(
        "--scope",
        metavar="SCOPE",
        help="submit, read, worker or admin. Repeat the option, or separate several by commas.",
        show_default="submit, read",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command(rich_help_panel="Access")(on_this_machine(token))
    several = group_of(keys)
    several.command()(anywhere(create))
    several.command("list")(anywhere(list_keys))
    several.command()(anywhere(revoke))
    app.add_typer(several, name="keys", rich_help_panel="Access")
    app.command(rich_help_panel="Access")(anywhere(audit))


def token(
    user: Annotated[
        str,
        typer.Option(
            "--user",
            metavar="ID",
            help="The user it belongs to (the claim `sub`): it gives access to this user's tasks.",
        ),
    ],
    scope: Scopes = None,
    ttl: Annotated[
        str | None, typer.Option(metavar="DURATION", help="How long it is valid: 10m, 8h, 30d.", show_default="24h")
    ] = None,
    as_json: Json = False,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Create a token and print it.

    It is signed with JWT_SECRET (the setting access.jwt_secret), or else with the secret in the data folder.
    """
    # Imported here: it needs cryptography, which takes longer to import than most commands take to run.
    from celeriac.access.tokens import mint_token

    chosen = _scopes(scope)
    settings = _settings(config, data_dir)
    _check_secret(settings)
    minted = mint_token(
        settings.access, data_dir=settings.data_dir, user_id=_user(user), scopes=chosen, ttl_s=_ttl_s(ttl)
    )
    if not settings.access.on:
        print_error("authentication is off here: nobody asks for this token (see docs/access.md)")
    if as_json:
        print_json({"token": minted, "user_id": user, "scopes": sorted(chosen)})
    else:
        print_line(minted)


def create(
    there: Destination,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the key is for; lists show it.")],
    user: Annotated[
        str | None,
        typer.Option("--user", metavar="ID", help="The user it belongs to; not needed with the scope admin or worker."),
    ] = None,
    scope: Scopes = None,
    ttl: Annotated[
        str | None, typer.Option(metavar="DURATION", help="How long it is valid.", show_default="until it is revoked")
    ] = None,
    as_json: Json = False,
) -> None:
    """Create an API key and print it. It cannot be shown again: only its hash is stored."""
    chosen = _scopes(scope)
    if user is None and not {Scope.ADMIN, Scope.WORKER} & set(chosen):
        raise SettingsError("name the key's user with --user, or give it the scope admin or worker")
    owner, ttl_s = None if user is None else _user(user), _ttl_s(ttl)

    async def work(platform: AnyPlatform) -> Record:
        words = sorted(scope.value for scope in chosen)
        return await platform.operators.create_key(name[:200], user_id=owner, scopes=words, ttl_s=ttl_s)

    made = there.run(work)
    if as_json:
        print_json(made)
    else:
        print_line(made["key"])


def keys(there: Destination, as_json: Json = False) -> None:
    """List the API keys: credentials that are valid until they expire or are revoked. Create and revoke them."""
    list_keys(there, as_json)


def list_keys(there: Destination, as_json: Json = False) -> None:
    """List the API keys, without their secrets."""

    async def work(platform: AnyPlatform) -> list[Record]:
        return await platform.operators.keys()

    records = there.run(work)
    if as_json:
        for record in records:
            print_json(record, one_line=True)
        return
    print_table(
        ("ID", "NAME", "USER", "SCOPES", "CREATED", "EXPIRES"),
        [
            (
                *(r["id"], r["name"], r["user_id"] or "", ",".join(r["scopes"])),
                *(ago(r["created_at"]), ago(r["expires_at"]) or "never"),
            )
            for r in records
        ],
        empty="there are no API keys: create one with `celeriac keys create NAME --user ID`",
    )


def revoke(
    there: Destination,
    key_id: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="The key's id, as `keys list` shows it, its beginning, or the key itself.",
            show_default=False,
            autocompletion=key_ids,
        ),
    ],
    as_json: Json = False,
) -> None:
    """Revoke an API key. Within seconds it is refused everywhere."""
    wanted = key_id.split("_")[1] if key_id.startswith("cel_") and key_id.count("_") >= 2 else key_id

    async def work(platform: AnyPlatform) -> tuple[str, bool]:
        whole = await whole_key_id(platform, wanted)
        return whole, await platform.operators.revoke_key(whole)

    whole, revoked = there.run(work)
    if not revoked:
        raise SettingsError(f"there is no API key with the id {whole!r}; `celeriac keys list` lists them")
    if as_json:
        print_json({"id": whole, "revoked": True})
    else:
        print_line(f"{whole} is revoked")


def audit(
    there: Destination,
    limit: Annotated[
        int, typer.Option(metavar="N", help="How many entries to show, the newest first.", min=1, max=10_000)
    ] = 50,
    as_json: Json = False,
) -> None:
    """Show who did what, when and from where: cancellations, retries, pauses, definitions, keys.

    With --json: one entry per line.
    """

    async def work(platform: AnyPlatform) -> list[Record]:
        return await platform.operators.audit(limit)

    found = there.run(work)
    if as_json:
        for entry in found:
            print_json(entry, one_line=True)
        return
    print_table(
        ("AT", "WHO", "ACTION", "TARGET", "STATUS", "FROM"),
        [(ago(e["at"]), e["actor"], e["action"], e["target"], e["status"], e["address"]) for e in found],
        empty="the audit has no entries yet",
    )


def _settings(config: Path | None, data_dir: Path | None) -> Settings:
    """Return the settings, from the configuration file of a running `up` if none is named. Needs no store."""
    chosen = {"data_dir": None if data_dir is None else str(data_dir)}
    settings = load_settings(config, chosen)
    if "data_dir" not in settings.model_fields_set:
        settings = settings.model_copy(update={"data_dir": nearest_data_dir()})
    installation = find_installation(settings.data_dir)
    if installation is not None and installation.config and config_path(config) is None:
        return load_settings(Path(installation.config), {"data_dir": str(settings.data_dir)})
    return settings


def _check_secret(settings: Settings) -> None:
    """Raise `SettingsError` if the `up` that runs on the data folder would refuse a token that is signed here."""
    installation = find_installation(settings.data_dir)
    if installation is None or installation.token_secret is None:
        return
    if installation.token_secret == secret_mark(settings.access):
        return
    if installation.token_secret == OF_THE_FOLDER:
        differs, advice = (
            "was started without JWT_SECRET, which is set here",
            "unset it here, or start `celeriac up` with it too",
        )
    else:
        differs = "verifies tokens with another secret than this shell's"
        advice = "set JWT_SECRET here to the same value, or create an API key: celeriac keys create NAME --user ID"
    raise SettingsError(
        f"the `celeriac up` that runs on {settings.data_dir} {differs}, and would refuse the token: {advice}"
    )


def _scopes(words: list[str] | None) -> tuple[Scope, ...]:
    if words is None:
        return _PLAIN
    named = [word for text in words for word in text.replace(",", " ").split()]
    known = {scope.value: scope for scope in Scope}
    if unknown := [word for word in named if word not in known]:
        raise SettingsError(f"there is no scope {unknown[0]!r}; the scopes are: {', '.join(known)}")
    return tuple(dict.fromkeys(known[word] for word in named))


def _user(text: str) -> str:
    if not text or len(text) > 256 or not text.isprintable():
        raise SettingsError(f"{text[:100]!r} is not a user id: write 1 to 256 printable characters")
    return text


def _ttl_s(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        seconds = float(parse_duration_s(text))
    except ValueError as exc:
        raise SettingsError(f"--ttl: {exc}") from exc
    if not 0 < seconds <= MAX_DURATION_S:
        raise SettingsError(f"--ttl is {text[:100]}: write a duration above zero and of at most a hundred years")
    return seconds
