"""Objects in S3, or in a storage that speaks its protocol."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError, NotFoundError
from obstore.store import S3Store

from celeriac.errors import FileMissingError
from celeriac.files.objects import PIECE, ObjectFacts, ObjectStore
from celeriac.settings import S3Settings


class S3Objects(ObjectStore):
    """Objects in a bucket, below a prefix. It finds credentials where AWS' own tools find them."""

    def __init__(self, url: str, s3: S3Settings) -> None:
        super().__init__(url)
        parts = urlsplit(url)
        options: dict[str, Any] = {"virtual_hosted_style_request": s3.virtual_hosted}
        if s3.endpoint is not None:
            options["endpoint"] = s3.endpoint
            options["client_options"] = {"allow_http": s3.endpoint.startswith("http://")}
        if s3.region is not None:
            options["region"] = s3.region
        self._store = S3Store(parts.netloc, prefix=parts.path.strip("/") or None, **options)

    def put(self, key: str, path: Path) -> None:
        """Store a file; a large file is sent in parts, which appear as one object."""
        with _translated(key), path.open("rb") as file:
            obstore.put(self._store, key, file, max_concurrency=4)

    def stat(self, key: str) -> ObjectFacts:
        """Return the facts of an object."""
        with _translated(key):
            meta = obstore.head(self._store, key)
        return ObjectFacts(meta["size"], (meta["e_tag"] or "").strip('"'), meta["last_modified"])

    def read(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Yield a range."""
        if end is not None and end <= start:
            return
        with _translated(key):
            wanted: Any = None
            if end is not None:
                wanted = {"range": (start, end)}
            elif start:
                wanted = {"range": {"offset": start}}
            for piece in obstore.get(self._store, key, options=wanted).stream(min_chunk_size=PIECE):
                yield bytes(piece)

    def delete(self, key: str) -> None:
        """Remove an object."""
        try:
            with _translated(key):
                obstore.delete(self._store, key)
        except FileMissingError:
            pass

    def list(self, prefix: str) -> Iterator[str]:
        """Yield the keys below a prefix."""
        with _translated(prefix):
            for page in obstore.list(self._store, prefix):
                for meta in page:
                    yield meta["path"]


@contextmanager
def _translated(key: str) -> Iterator[None]:
    """Translate obstore's errors into this project's errors."""
    try:
        yield
    except (NotFoundError, FileNotFoundError) as exc:
        raise FileMissingError(f"there is no {key} in the storage") from exc
    except BaseError as exc:
        raise OSError(f"the object storage refused {key}: {exc}") from exc
