"""The secret that signs tokens if none is configured: a file in the data folder that only its owner can read."""

from __future__ import annotations

import hmac
import os
import secrets
from pathlib import Path
from typing import Final

from celeriac.errors import SettingsError
from celeriac.installation.private_file import make_private_folder
from celeriac.settings import AccessSettings

NAME: Final = "token_secret"
#: The mark (`secret_mark`) of the data folder's own secret.
OF_THE_FOLDER: Final = "data folder"


def secret_mark(access: AccessSettings) -> str:
    """Return a text that is equal for two processes if they accept the same tokens, and reveals no secret.

    For a configured secret it is a keyed hash, shortened.
    """
    if access.jwt_secret is not None:
        return hmac.new(access.jwt_secret.get_secret_value().encode(), b"celeriac", "sha256").hexdigest()[:16]
    return OF_THE_FOLDER if access.jwks is None else "issuer"


def read_secret(data_dir: Path) -> str | None:
    """Return the secret, or None if there is none yet; raises `SettingsError` if other users may read the file."""
    path = data_dir / NAME
    try:
        with open(path, encoding="ascii") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(1000).strip()
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as exc:
        raise SettingsError(f"{path} cannot be read: {exc}") from exc
    if mode & 0o077:
        raise SettingsError(f"{path} can be read by other users, who could make tokens with it: run chmod 600 {path}")
    return text or None


def read_or_make_secret(data_dir: Path) -> str:
    """Return the secret, and make one first if there is none. If several processes make one, all return the same."""
    while (found := read_secret(data_dir)) is None:
        make_private_folder(data_dir)
        draft = data_dir / f".{NAME}.{secrets.token_hex(4)}"
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.fchmod(handle, 0o600)  # whatever the umask is
            with os.fdopen(handle, "w", encoding="ascii") as file:
                file.write(secrets.token_urlsafe(48) + "\n")
                file.flush()
                os.fsync(file.fileno())
            # Unlike a rename, a link does not replace a secret that another process has made meanwhile.
            os.link(draft, data_dir / NAME)
        except FileExistsError:
            continue
        finally:
            draft.unlink(missing_ok=True)
    return found
