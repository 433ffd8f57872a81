"""Settings of the executors that `grpc_task` calls."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from celeriac.settings.executor_address import check_address
from celeriac.settings.values import Duration, Section

#: Longest deadline of a call, a year: beyond it arithmetic of deadlines overflows somewhere.
MAX_TIMEOUT_S: Final = 366 * 86400.0


class TlsSettings(Section):
    """TLS of a connection to a service; even `{}` turns it on. Paths to PEM files, read when the channel is opened."""

    #: Certificate authorities to trust; the system's where it is left out.
    ca_file: Path | None = None
    #: Certificate and key of the client, for mutual TLS.
    cert_file: Path | None = None
    key_file: Path | None = None
    #: Name to expect in the server's certificate, where it differs from the address.
    server_name: str | None = None

    @model_validator(mode="after")
    def _pair(self) -> Self:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("mutual TLS needs both cert_file and key_file")
        return self


class GrpcDefaults(Section):
    """What a gRPC service uses for each value that it leaves out."""

    #: Longest call, from its start.
    timeout: Duration = Field(300.0, gt=0, le=MAX_TIMEOUT_S)
    #: How often an idle channel is checked.
    health_check_interval: Duration = 30.0
    #: Further attempts after a failure that may pass, and the pause before the first of them.
    max_retries: int = Field(3, ge=0)
    retry_delay: Duration = 1.0


class GrpcService(Section):
    """One executor: where it is and how it is called."""

    #: `HOST:PORT` of the executor; also `[::1]:PORT`, `unix:/path`, `dns:///host:PORT`, `ipv4:…`.
    #: What is left out below is taken from `grpc_services.defaults`.
    address: Annotated[str, AfterValidator(check_address)]
    #: As in `grpc_services.defaults`, for this service alone.
    timeout: Duration | None = Field(None, gt=0, le=MAX_TIMEOUT_S)
    health_check_interval: Duration | None = None
    max_retries: int | None = Field(None, ge=0)
    retry_delay: Duration | None = None
    tls: TlsSettings | None = None
    #: Sent with each call, e.g. `{authorization: "Bearer …"}`; never logged.
    metadata: dict[str, SecretStr] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _tls_is_said(cls, values: Any) -> Any:
        # YAML reads a key with nothing below it as null. Whoever wrote it wanted TLS, not clear text.
        if isinstance(values, Mapping) and "tls" in values and values["tls"] is None:
            raise ValueError("tls is empty: write tls: {} for the system's authorities, or leave it out")
        return values

    def filled(self, defaults: GrpcDefaults) -> ResolvedGrpcService:
        """Return the service with every value it leaves out taken from `defaults`."""

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
    """A gRPC service with nothing left open."""

    address: str
    tls: TlsSettings | None = None
    metadata: dict[str, SecretStr] = Field(default_factory=dict)


class GrpcServices(Section):
    """The executors that `grpc_task` can call, by name."""

    #: Whether `grpc_task` is offered at all.
    enabled: bool = True
    #: The executors.
    services: dict[str, GrpcService] = Field(default_factory=dict)
    defaults: GrpcDefaults = GrpcDefaults()

    def resolve(self, name: str) -> ResolvedGrpcService | None:
        """Return the service of this name, filled from the defaults, or None."""
        service = self.services.get(name)
        return None if service is None else service.filled(self.defaults)
