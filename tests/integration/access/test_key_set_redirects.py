"""A key set is fetched over encrypted connections only, wherever the issuer redirects to."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from celeriac.access.key_set import KeySet
from celeriac.errors import AuthenticationError
from tests.kit.certificates import Authority

_KEY: dict[str, Any] = json.loads(ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1()).public_key()))
DOCUMENT = json.dumps({"keys": [{**_KEY, "kid": "one", "use": "sig", "alg": "ES256"}]}).encode()


@contextmanager
def issuer(context: ssl.SSLContext | None) -> Iterator[tuple[str, dict[str, str]]]:
    """Serve the key set at `/keys`; yields the address, and where each other path redirects to."""
    redirects: dict[str, str] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            target = redirects.get(self.path)
            self.send_response(200 if target is None else 302)
            if target is not None:
                self.send_header("Location", target)
            self.end_headers()
            if target is None:
                self.wfile.write(DOCUMENT)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"{'http' if context is None else 'https'}://127.0.0.1:{server.server_port}", redirects
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("source", "target", "accepted"),
    [
        ("https", "https", True),
        ("http", "https", True),
        ("http", "http", True),
        ("https", "http", False),
        ("https", "ftp", False),
        ("https", "file", False),
        ("http", "elsewhere", False),
        ("https", "twice", False),
    ],
)
async def test_a_redirect_is_followed_if_the_setting_could_name_its_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, target: str, accepted: bool
) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    with ExitStack() as servers:
        addresses, redirects = {}, {}
        for scheme, used in (("http", None), ("https", context)):
            addresses[scheme], redirects[scheme] = servers.enter_context(issuer(used))
        targets = {
            "https": f"{addresses['https']}/keys",
            "http": f"{addresses['http']}/keys",
            "ftp": "ftp://127.0.0.1/keys",
            "file": f"file://{tmp_path}/keys",
            "elsewhere": "http://issuer.example/keys",
            "twice": f"{addresses['https']}/second",
        }
        redirects["https"]["/second"] = targets["http"]
        redirects[source]["/moved"] = targets[target]
        keys = KeySet(f"{addresses[source]}/moved", refresh_s=300)
        if accepted:
            assert (await keys.key("one", "ES256")).key_id == "one"
        else:
            with pytest.raises(AuthenticationError):
                await keys.key("one", "ES256")


async def test_a_key_set_on_this_machine_is_not_asked_for_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with issuer(None) as (address, _):
        assert (await KeySet(f"{address}/keys", refresh_s=300).key("one", "ES256")).key_id == "one"
