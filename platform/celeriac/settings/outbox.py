"""Settings of outboxes."""

from __future__ import annotations

import re
from typing import Final

from pydantic import Field, field_validator

from celeriac.settings.values import Duration, Names, Section

_DATABASE: Final = re.compile(r"sqlite(\+(aio|py)sqlite)?:///(?!:memory:).+|(postgres|postgresql(\+psycopg)?)://.+")


class OutboxSettings(Section):
    """The relay of transactional outboxes: tasks that a transaction of the application's database submits."""

    databases: Names = Field(
        default_factory=list,
        description=(
            "URLs of databases with a table `celeriac_outbox` (`sqlite:///PATH` or `postgresql://…`), a list or one. "
            "Workers and beats relay what is there. A Django project needs none: its databases are known."
        ),
    )
    poll: Duration = Field(
        1.0,
        ge=0.01,
        le=60,
        description="The pause between two looks into an empty outbox. PostgreSQL tells the relay of new rows at once.",
    )
    batch: int = Field(200, ge=1, le=10_000, description="How many rows a relay takes at once.")
    lease: Duration = Field(
        30.0,
        ge=1,
        description="How long after a relay has taken rows another one takes them, if the first one died.",
    )
    longest_pause: Duration = Field(
        300.0,
        ge=1,
        description=(
            "The longest pause before a row that the store refuses is tried again. The row stays until it is accepted "
            "or somebody deletes it; `celeriac doctor` shows why it is refused."
        ),
    )

    @field_validator("databases")
    @classmethod
    def check_databases(cls, urls: list[str]) -> list[str]:
        """Refuse what cannot be a database with an outbox, before anything starts."""
        for url in urls:
            if _DATABASE.fullmatch(url) is None:
                # Not the whole URL: it may have a password.
                kind = url.partition(":")[0] if ":" in url else url
                raise ValueError(
                    f"must be sqlite:///PATH (four slashes for /…) or postgresql://USER@HOST/NAME, and one is {kind!r}"
                )
        return urls
