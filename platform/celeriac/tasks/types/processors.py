"""File processors: one decorated function each, run in a child process with limits.

    @processor("words", options=WordOptions)
    def words(job: FileJob, options: WordOptions) -> dict[str, Any]:
        text = job.source.read_text()
        job.output("result.txt").write_text(text.upper())
        return {"words": len(text.split())}

A `file_process` task names the processor and its options, which are validated at submission too. What
the function returns are the task's facts (a JSON object); what it wrote stands beside the original when
it has returned, and is gone when it has not.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

from celeriac.errors import SettingsError

PROCESSOR_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
#: Names of output files; those of originals and of unfinished work are taken.
_OUTPUT_NAME: Final = re.compile(r"(?!original\.)[A-Za-z0-9_-][A-Za-z0-9_.-]{0,199}")


class NoOptions(BaseModel):
    """The options of a processor that has none."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class JobLimits:
    """The limits of a run: those that the system holds, and those that a processor has to look at itself."""

    memory_bytes: int
    cpu_s: int
    max_output_bytes: int
    max_open_files: int
    max_pixels: int
    max_duration_s: float
    threads: int
    #: The ffmpeg that the settings name.
    ffmpeg: str | None = None


class FileJob:
    """A run of a processor, as its function sees it."""

    def __init__(
        self, *, source: Path, folder: Path, limits: JobLimits, report: Callable[[float, str, str], None]
    ) -> None:
        #: The file to work on: a regular file, not empty; its name says nothing about its content.
        self.source = source
        self.limits = limits
        #: A folder for this run alone; everything in it that is not an output is deleted.
        self.folder = folder
        #: Names of the files that were asked for, the result first.
        self.outputs: list[str] = []
        self._report = report

    def output(self, name: str) -> Path:
        """Return where to write the output file `name`; the first one asked for is the task's result file."""
        if not is_output_name(name):
            raise ValueError(f"{name!r} is not a valid name for an output file: use letters, digits and _ . -")
        if name not in self.outputs:
            self.outputs.append(name)
        return self.folder / name

    def progress(self, percentage: float, stage: str = "", message: str = "") -> None:
        """Report how far this run is (0 to 100), as often as you like; reports that come too fast are left out."""
        self._report(percentage, stage, message)


@dataclass(frozen=True)
class Processor:
    """One kind of file processing: its name, the shape of its options and, on workers, its function."""

    name: str
    options: type[BaseModel] = NoOptions
    function: Callable[[FileJob, Any], Mapping[str, Any]] | None = None
    #: The distribution that it needs and that not every installation has.
    requires: str | None = None
    description: str = ""
    #: Its share of the progress of a chain, next to those of the other steps.
    weight: float = 1.0

    @property
    def target(self) -> str:
        """Where another process finds the function: `module:name`."""
        if self.function is None:
            raise SettingsError(f"the processor {self.name!r} has no function in this process")
        return f"{self.function.__module__}:{self.function.__qualname__}"


class Processors:
    """The processors that a process knows, by name."""

    def __init__(self) -> None:
        self._processors: dict[str, Processor] = {}

    def add(self, new: Processor) -> Processor:
        """Register a processor; a second one of the same name from elsewhere is a `SettingsError`."""
        known = self._processors.get(new.name)
        if known is not None and known.function is not None and (new.function is None or known.target != new.target):
            raise SettingsError(f"two file processors are named {new.name!r}: one is {known.target}")
        self._processors[new.name] = new
        return new

    def get(self, name: str) -> Processor | None:
        """Return the processor of this name, or None."""
        return self._processors.get(name)

    def __iter__(self) -> Iterator[Processor]:
        return iter(sorted(self._processors.values(), key=lambda known: known.name))


#: The processors of this process.
processors: Final = Processors()


def processor(
    name: str, *, options: type[BaseModel] = NoOptions, requires: str | None = None, weight: float = 1.0
) -> Callable[[Callable[[FileJob, Any], Mapping[str, Any]]], Callable[[FileJob, Any], Mapping[str, Any]]]:
    """Make a function a file processor, named as submissions name it.

    It must be a function of a module (another process imports it by its name). It raises `SkipRetry`
    where the file, or an option, cannot be dealt with; `requires` names the distribution to install
    where an import fails.
    """
    if not PROCESSOR_NAME.fullmatch(name):
        raise SettingsError(f"{name!r} is not a valid name for a processor: use lower-case letters, digits and _ . -")

    def decorate(function: Callable[[FileJob, Any], Mapping[str, Any]]) -> Callable[[FileJob, Any], Mapping[str, Any]]:
        if "<" in function.__qualname__:
            raise SettingsError(f"the processor {name!r} is {function.__qualname__}: make it a function of a module")
        processors.add(
            Processor(
                name=name,
                options=options,
                function=function,
                requires=requires,
                description=inspect.getdoc(function) or "",
                weight=weight,
            )
        )
        return function

    return decorate


def is_output_name(name: str) -> bool:
    """Return whether an output file may have this name: no folder, not hidden, not an original's."""
    return _OUTPUT_NAME.fullmatch(name) is not None
