"""Settings of the executors that `grpc_task` calls."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from celeriac.settings.executor_address import check_address
from celeriac.settings.values import Duration, Section

#: Longest deadline of a call, a year: the arithmetic of longer deadlines overflows in gRPC.
MAX_TIMEOUT_S: Final = 366 * 86400.0


class TlsSettings(Section):
    """TLS of the connection to a service; even `{}` turns it on. PEM files are read when the channel is opened."""

    ca_file: Path | None = Field(
        None, description="Certificate authorities that the client trusts. Not set: those of the operating system."
    )
    cert_file: Path | None = Field(
        None, description="Certificate that the client shows (mutual TLS). It needs `key_file` too."
    )
    key_file: Path | None = Field(None, description="Private key of the client's certificate.")
    server_name: str | None = Field(
        None, description="Name that the server's certificate must have. Not set: the host in the address."
    )

    @model_validator(mode="after")
    def _pair(self) -> Self:
        if (self.cert_file is None) != (self.key_file is None):
            missing = "cert_file" if self.cert_file is None else "key_file"
            raise ValueError(f"{missing} is missing: mutual TLS needs both cert_file and key_file")
        return self


class GrpcDefaults(Section):
    """The values of every gRPC service that does not set its own."""

    timeout: Duration = Field(
        300.0,
        gt=0,
        le=MAX_TIMEOUT_S,
        description=(
            "How long a call may take, if the task's `options.timeout_ms` does not say otherwise. A call that takes "
            "longer is cancelled and fails."
        ),
    )
    health_check_interval: Duration = Field(
        30.0,
        description=(
            "How long a successful health check is trusted. While a service is in use, it is checked again at this "
            "interval; 0 checks before every call."
        ),
    )
    max_retries: int = Field(
        3, ge=0, description="How many further attempts a task gets after a failure that may be temporary."
    )
    retry_delay: Duration = Field(
        1.0, description="Pause before the second attempt; each further pause is twice as long, up to 5 minutes."
    )


class GrpcService(Section):
    """One executor: its address and how it is called. What it does not set is taken from `grpc_services.defaults`."""

    address: Annotated[str, AfterValidator(check_address)] = Field(
        description=(
            "Where the executor listens: `HOST:PORT`, `[::1]:PORT`, `unix:/path`, `dns:///host:PORT`, `ipv4:…` or "
            "another form that gRPC takes."
        )
    )
    timeout: Duration | None = Field(
        None,
        gt=0,
        le=MAX_TIMEOUT_S,
        description="How long a call of this service may take. Not set: `grpc_services.defaults.timeout`.",
    )
    health_check_interval: Duration | None = Field(
        None,
        description=(
            "How long a successful health check of this service is trusted. Not set: "
            "`grpc_services.defaults.health_check_interval`."
        ),
    )
    max_retries: int | None = Field(
        None,
        ge=0,
        description=(
            "How many further attempts a task of this service gets. Not set: `grpc_services.defaults.max_retries`."
        ),
    )
    retry_delay: Duration | None = Field(
        None,
        description=(
            "Pause before the second attempt at a task of this service. Not set: `grpc_services.defaults.retry_delay`."
        ),
    )
    tls: TlsSettings | None = None
    metadata: dict[str, SecretStr] = Field(
        default_factory=dict,
        description='Metadata that is sent with each call, such as `{authorization: "Bearer …"}`. It is never logged.',
    )

    @model_validator(mode="before")
    @classmethod
    def _tls_is_said(cls, values: Any) -> Any:
        # YAML reads a key with nothing below it as null. Its author wanted TLS, not clear text.
        if isinstance(values, Mapping) and "tls" in values and values["tls"] is None:
            raise ValueError(
                "tls is empty: write tls: {} for TLS that trusts the system's authorities, or remove it for none"
            )
        return values

    def filled(self, defaults: GrpcDefaults) -> ResolvedGrpcService:
        """Return the service with every value that it does not set taken from `defaults`."""

        def pick(name: str) -> Any:
            own = getattr(self, name)
            return getattr(defaults, name) if own is None else own

        return ResolvedGrpcService(
            address=self.address,
            timeout=pick("timeout"),
            health_check_interval=pick("health_check_interval"),
            max_retries=pick("max_retries"),
            retry_delay=pick("retry_delay"),
            tls=self.tls,
            metadata=self.metadata,
        )


class ResolvedGrpcService(GrpcDefaults):
    """A gRPC service with all values set."""

    address: str
    tls: TlsSettings | None = None
    metadata: dict[str, SecretStr] = Field(default_factory=dict)


class GrpcServices(Section):
    """The executors that `grpc_task` can call."""

    enabled: bool = Field(True, description="Whether `grpc_task` may be submitted and run at all.")
    services: dict[str, GrpcService] = Field(
        default_factory=dict, description="The executors, each with the name that tasks use for it."
    )
    defaults: GrpcDefaults = GrpcDefaults()

    def resolve(self, name: str) -> ResolvedGrpcService | None:
        """Return the service of this name with the defaults filled in, or None."""
        service = self.services.get(name)
        return None if service is None else service.filled(self.defaults)
