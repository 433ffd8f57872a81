"""Opens a channel to an executor, and builds the metadata that every call carries."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import grpc

from celeriac.errors import TaskError
from celeriac.settings import ResolvedGrpcService, TlsSettings

#: Channel options, each with its reason; `open_channel` adds the message sizes.
OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    # Pings detect a peer that vanished silently. By default, servers in C++, Python, Java and Go refuse
    # a client ("too many pings") that pings a quiet connection more often than every 5 minutes, and end
    # all its streams. Between the pings, the health check on the same connection detects a vanished
    # peer: unacknowledged bytes end the connection after the ping's timeout.
    ("grpc.keepalive_time_ms", 330_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # An executor that comes back is found within a second (gRPC's default grows to two minutes). An
    # attempt to connect to a host that drops packets ends before the health check times out.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 4_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # Executors are reached directly: an HTTP proxy in the worker's environment is meant for the web.
    ("grpc.enable_http_proxy", 0),
    # Two services at the same address each have their own connection, so that one failure does not affect both.
    ("grpc.use_local_subchannel_pool", 1),
)

#: How much larger a Struct can be than its JSON text: a number may take two bytes in JSON ("1,"), and it takes
#: eleven as a `Value` in a list.
_STRUCT_OVER_JSON: Final = 6

_METADATA_NAME: Final = re.compile(r"[0-9a-z_.-]+")
_METADATA_VALUE: Final = re.compile(r"[\x20-\x7e]*")


def open_channel(service: ResolvedGrpcService, *, max_result_bytes: int) -> grpc.aio.Channel:
    """Open a channel, which connects when first used; raises `TaskError` if a PEM file cannot be read.

    `max_result_bytes` is the limit of a result as JSON text; the channel accepts a message that holds such a
    result. The submission already limits what is sent, and the executor has its own limit for what it accepts.
    """
    options = [
        *OPTIONS,
        ("grpc.max_receive_message_length", _STRUCT_OVER_JSON * max_result_bytes + 65_536),
        ("grpc.max_send_message_length", -1),
    ]
    if service.tls is None:
        return grpc.aio.insecure_channel(service.address, options=options)
    if service.tls.server_name is not None:
        options.append(("grpc.ssl_target_name_override", service.tls.server_name))  # type: ignore[arg-type]
    return grpc.aio.secure_channel(service.address, _credentials(service.tls), options=options)


def call_metadata(service: ResolvedGrpcService) -> tuple[tuple[str, str | bytes], ...]:
    """Return the metadata of every call; raises `TaskError` for a pair that HTTP/2 cannot carry.

    Names are in lower case, as HTTP/2 requires; values of names that end in `-bin` are bytes.
    """
    pairs: list[tuple[str, str | bytes]] = []
    for given, secret in service.metadata.items():
        name, value = given.lower(), secret.get_secret_value()
        binary = name.endswith("-bin")
        # Checked here because gRPC's own error would show the value, which is a secret.
        if not _METADATA_NAME.fullmatch(name) or not (binary or _METADATA_VALUE.fullmatch(value)):
            raise TaskError(
                f"metadata {given!r} of the gRPC service at {service.address} cannot be sent: use letters, digits"
                " and _ . - in the name, and printable ASCII in the value",
                code="invalid_settings",
            )
        pairs.append((name, value.encode() if binary else value))
    return tuple(pairs)


def _credentials(tls: TlsSettings) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(
        root_certificates=_pem(tls.ca_file),
        private_key=_pem(tls.key_file),
        certificate_chain=_pem(tls.cert_file),
    )


def _pem(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as exc:
        # Retried, because certificates may be mounted late or rotated.
        raise TaskError(f"cannot read the TLS file {path}: {exc.strerror}", code="invalid_settings") from exc
