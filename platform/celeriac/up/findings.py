"""What the doctor finds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How serious a finding is."""

    OK = "ok"
    WARNING = "warning"  #: it works, but something should be done
    FAILURE = "failure"  #: it does not work


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found about one subject, and what to do about it; `advice` is empty if nothing needs to be done."""

    subject: str
    state: Severity
    detail: str
    advice: str = ""


def ok(subject: str, detail: str) -> Finding:
    """Return a finding about which nothing needs to be done."""
    return Finding(subject, Severity.OK, detail)


def warning(subject: str, detail: str, advice: str) -> Finding:
    """Return a finding about which something should be done."""
    return Finding(subject, Severity.WARNING, detail, advice)


def failure(subject: str, detail: str, advice: str) -> Finding:
    """Return a finding that prevents the platform from working."""
    return Finding(subject, Severity.FAILURE, detail, advice)
