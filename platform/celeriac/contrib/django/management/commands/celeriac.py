"""`manage.py celeriac …`: the command line of Celeriac, with Django set up and the settings of the project."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from celeriac.cli import main as command_line
from celeriac.contrib.django.configuring import add_imports, add_project_path
from celeriac.errors import CeleriacError


class Command(BaseCommand):
    """Runs any command of Celeriac: `worker`, `beat`, `up`, `doctor`, `list`, …; and `import`."""

    help = "Run a command of Celeriac with the settings of this project, for example: manage.py celeriac worker"
    # They are asked for by the command itself where they matter.
    requires_system_checks: list[str] = []  # noqa: RUF012 - as Django has it

    def run_from_argv(self, argv: list[str]) -> None:
        """Hand all arguments to the command line of Celeriac; it has options of the same names as Django's."""
        arguments = argv[2:]
        if arguments[:1] == ["import"]:
            self._import(arguments[1:])
            return
        add_imports()
        add_project_path()
        sys.argv = ["celeriac", *arguments]
        sys.exit(command_line.main())

    def _import(self, options: list[str]) -> None:
        """Import results, and the schedules of the Celery project that is named, with all options of `adopt`."""
        from celeriac.contrib.django.moving_in import import_results

        try:
            done, left = import_results()
        except CeleriacError as exc:
            raise CommandError(str(exc)) from exc
        self.stdout.write(f"{done} results are in the history; {left} have not ended and are left out")
        if options:
            sys.argv = ["celeriac", "adopt", "--import-schedules", *options]
            sys.exit(command_line.main())

    def handle(self, *args: str, **_: Any) -> None:
        """Do the same for `call_command("celeriac", "worker")`."""
        self.run_from_argv(["manage.py", "celeriac", *args])
