"""Settings of what a caller may send before the server knows who it is."""

from __future__ import annotations

from typing import Final

from pydantic import Field

from celeriac.settings.values import Duration, Section, Size

#: gRPC counts milliseconds in 32 bits.
_LONGEST_S: Final = 20 * 86400.0


class ServerSettings(Section):
    """Bounds of a request's head, and of what a caller may send before it has shown a credential."""

    # --- the head of a request
    max_head_bytes: Size = Field(
        64 * 1024,
        ge=4096,
        description=(
            "The largest head of a request: its URL and its headers. A larger one is answered 431, and the connection "
            "is closed."
        ),
    )
    max_head_fields: int = Field(
        200, ge=20, description="How many headers a request may have. A request with more of them is answered 431."
    )
    max_field_bytes: Size = Field(
        16 * 1024,
        ge=1024,
        description="The largest single header of a request. A larger one is answered 431. WebSockets: at most 8 KiB.",
    )
    max_url_bytes: Size = Field(
        16 * 1024,
        ge=1024,
        description="The longest URL, with its query. A longer one is answered 414. WebSockets: at most 8 KiB.",
    )
    max_pipelined: int = Field(
        100,
        ge=1,
        description=(
            "How many requests one connection may send before it has received the answers. A connection that sends "
            "more is closed after the answers."
        ),
    )

    # --- answers
    compress_from: Size = Field(
        4096,
        ge=0,
        description=(
            "JSON answers of at least this size are compressed (gzip) for callers that accept it; 0 compresses none. "
            "Event streams, WebSockets and answers to submissions are never compressed."
        ),
    )

    # --- callers that wait for the end of a task
    max_wait: Duration = Field(
        60.0,
        ge=0,
        le=3600,
        description=(
            "The longest `wait` of a request that is to be answered when its task has ended. Above it, the answer is "
            "422. Proxies in front of the server must let requests last that long."
        ),
    )
    max_waiters: int = Field(
        10_000,
        ge=1,
        description=(
            "How many requests with `wait` one API process has open at once. Further ones are refused with the code "
            "`too_many_waiters`; our clients ask at intervals then."
        ),
    )
    max_waiters_per_caller: int = Field(
        2_000,
        ge=1,
        description=(
            "How many of them one user or key may have. Without authentication, all callers together have "
            "`server.max_waiters`."
        ),
    )

    # --- before a credential
    max_unproven_bytes: Size = Field(
        16 * 1024,
        ge=4096,
        description=(
            "The largest body of a request to an open route (the sign-in page), and the largest WebSocket message, "
            "while the server does not know the caller. A larger body is answered 413, a larger message ends the "
            "connection with 1009."
        ),
    )
    unproven_timeout: Duration = Field(
        10.0,
        ge=0.1,
        description=(
            "How long a caller that the server does not know may take for the whole body of a request, or for the "
            "WebSocket message with its token."
        ),
    )
    max_unproven_per_address: int = Field(
        100,
        ge=1,
        description=(
            "How many WebSockets of one address may be open before they have shown a token. Further ones are "
            "refused with the code `too_many_connections`. An IPv6 network (/64) counts as one address."
        ),
    )

    # --- gRPC
    max_grpc_streams: int = Field(
        100,
        ge=1,
        le=1_000_000,
        description="How many calls one gRPC connection may have open; the client keeps further ones back.",
    )
    max_grpc_message_bytes: Size = Field(
        64 * 1024, ge=1024, le=1024**3, description="The largest message of a gRPC call. A larger one is refused."
    )
    grpc_idle: Duration = Field(
        300.0,
        ge=1,
        le=_LONGEST_S,
        description="How long a gRPC connection without a call stays open. Clients connect again.",
    )
    grpc_age: Duration = Field(
        3600.0,
        ge=1,
        le=_LONGEST_S,
        description=(
            "How long a gRPC connection takes new calls. Then the client connects again, and calls that are open have "
            "a minute to end."
        ),
    )
    max_health_watches_per_address: int = Field(
        20,
        ge=1,
        description=(
            "How many streams of the gRPC method `Health.Watch` one address may have open. Further ones are refused "
            "with `RESOURCE_EXHAUSTED`."
        ),
    )
    open_rate: float = Field(
        100.0,
        gt=0,
        description=(
            "How many calls per second one address may make to the open gRPC methods (`Health`), with bursts of twice "
            "as many. Further ones are refused with `RESOURCE_EXHAUSTED`."
        ),
    )
