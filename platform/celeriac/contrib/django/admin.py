"""The admin: tasks, dead letters, definitions, groups and limits of the platform, read-only, with actions.

The pages ask the platform that the process submits to, as the command line does: over HTTP where `CELERIAC_URL` is set,
else through the store. Each action is in the audit trail. A user who may view a page sees the tasks of all users.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils.dateparse import parse_datetime
from pydantic import ValidationError

from celeriac.cli.reach.destination import Destination
from celeriac.cli.reach.platform import AnyPlatform, Record
from celeriac.contrib.django.models import (
    OutboxTask,
    ShownDeadLetter,
    ShownDefinition,
    ShownGroup,
    ShownLimit,
    ShownTask,
)
from celeriac.errors import CeleriacError, InvalidSubmissionError
from celeriac.model import Status
from celeriac.task_filter import Sort, TaskFilter
from celeriac.violations import violations_of

#: How many a page shows; the dashboard has all.
_SHOWN: Final = 100


@dataclass(frozen=True, slots=True)
class PlatformAction:
    """Something that is done to each chosen row."""

    label: str
    done: str
    work: Callable[[AnyPlatform, str], Awaitable[object]]


_RETRY: Final = PlatformAction("Run again", "wait for a worker again", lambda there, key: there.tasks.retry(key, None))
_CANCEL: Final = PlatformAction("Cancel", "are cancelled", lambda there, key: there.tasks.cancel(key))


class PlatformAdmin(admin.ModelAdmin):
    """A page of rows that the platform has."""

    #: The heads of the columns; the first one has the key of a row.
    columns: ClassVar[Sequence[str]] = ()
    platform_actions: ClassVar[Mapping[str, PlatformAction]] = {}
    #: What the search field takes; "" if there is none.
    search_hint: ClassVar[str] = ""

    async def rows(self, platform: AnyPlatform, query: str) -> list[tuple[Any, ...]]:
        """Return up to `_SHOWN` rows, with a value for each column."""
        raise NotImplementedError

    def has_add_permission(self, request: Any) -> bool:
        """Nothing is added here."""
        return False

    def has_delete_permission(self, request: Any, obj: Any = None) -> bool:
        """Nothing is deleted here."""
        return False

    def changelist_view(self, request: Any, extra_context: Any = None) -> HttpResponse:
        """Show the rows, or do what was chosen."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        if request.method == "POST":
            self._act(request)
            return HttpResponseRedirect(request.get_full_path())
        query, rows, trouble = request.GET.get("q", "").strip(), [], ""
        try:
            rows = Destination().run(lambda platform: self.rows(platform, query))
        except CeleriacError as exc:
            trouble = str(exc)
        context = {
            **self.admin_site.each_context(request),
            "title": self.opts.verbose_name_plural.capitalize(),
            "opts": self.opts,
            "columns": self.columns,
            "rows": rows,
            "most": _SHOWN,
            "trouble": trouble,
            "query": query,
            "search_hint": self.search_hint,
            "platform_actions": self.platform_actions if self.has_change_permission(request) else {},
            **(extra_context or {}),
        }
        return TemplateResponse(request, "admin/celeriac/rows.html", context)

    def changeform_view(self, request: Any, object_id: Any = None, *_: Any, **__: Any) -> HttpResponse:
        """Lead to the list: a row has no form."""
        return HttpResponseRedirect("../")

    def _act(self, request: Any) -> None:
        action, keys = self.platform_actions.get(request.POST.get("action", "")), request.POST.getlist("key")
        if action is None or not self.has_change_permission(request):
            raise PermissionDenied
        if not keys:
            messages.warning(request, "Choose at least one row.")
            return
        refused: list[str] = []

        async def work(platform: AnyPlatform) -> int:
            done = 0
            for key in keys[:_SHOWN]:
                try:
                    await action.work(platform, key)
                    done += 1
                except CeleriacError as exc:
                    refused.append(str(exc))
            return done

        try:
            done = Destination().run(work)
        except CeleriacError as exc:
            messages.error(request, str(exc))
            return
        if done:
            messages.success(request, f"{done} {self.opts.verbose_name_plural} {action.done}.")
        for text in refused[:10]:
            messages.error(request, text)


@admin.register(ShownTask)
class TaskAdmin(PlatformAdmin):
    """Tasks, the newest first."""

    columns = ("Id", "Type", "Status", "Group", "User", "Created", "Error")
    platform_actions: ClassVar = {"cancel": _CANCEL, "retry": _RETRY}
    search_hint = "type:orders.tasks.send_receipt status:failed words"
    statuses: ClassVar[tuple[Status, ...]] = ()
    sort: ClassVar[Sort] = Sort.CREATED_DOWN

    async def rows(self, platform: AnyPlatform, query: str) -> list[tuple[Any, ...]]:
        """Return the tasks that match."""
        try:
            chosen = TaskFilter.model_validate({"q": query} if query else {})
        except ValidationError as exc:
            raise InvalidSubmissionError(violations_of(exc)) from exc
        if self.statuses:
            chosen = chosen.model_copy(update={"status": self.statuses})
        return [_task_row(one) async for one in platform.tasks.listed(chosen, self.sort, _SHOWN)]


@admin.register(ShownDeadLetter)
class DeadLetterAdmin(TaskAdmin):
    """Tasks that have failed for good, the latest first."""

    platform_actions: ClassVar = {"retry": _RETRY}
    statuses = (Status.FAILED,)
    sort = Sort.FINISHED_DOWN


def _task_row(task: Record) -> tuple[Any, ...]:
    error = task.get("error") or {}
    return (
        task["task_id"],
        task["type"],
        task["status"],
        task["queue"],
        task.get("user_id") or "",
        parse_datetime(task["created_at"]),
        error.get("message", ""),
    )


@admin.register(ShownDefinition)
class DefinitionAdmin(PlatformAdmin):
    """Definitions."""

    columns = ("Id", "Name", "Runs", "Status", "Next", "Fired", "User")
    platform_actions: ClassVar = {
        "pause": PlatformAction(
            "Pause", "are paused", lambda there, key: there.definitions.move(key, "pause", "in Django's admin")
        ),
        "resume": PlatformAction(
            "Resume", "go on", lambda there, key: there.definitions.move(key, "resume", "in Django's admin")
        ),
    }

    async def rows(self, platform: AnyPlatform, query: str) -> list[tuple[Any, ...]]:
        """Return the definitions."""
        found = await platform.definitions.listed(_SHOWN, user_id=None, status=None, group=None)
        return [
            (
                one["task_def_id"],
                one["name"] or "",
                one["content"] if one["task"] is None else one["task"].get("type"),
                one["status"].lower(),
                parse_datetime(one["next_run_at"]) if one["next_run_at"] else "",
                one["counters"]["fired"],
                one["user_id"] or "",
            )
            for one in found
        ]


@admin.register(ShownGroup)
class GroupAdmin(PlatformAdmin):
    """Groups."""

    columns = ("Name", "Waiting", "Running", "Workers", "Paused")
    platform_actions: ClassVar = {
        "pause": PlatformAction("Pause", "are paused", lambda there, key: there.groups.pause(key, "in Django's admin")),
        "resume": PlatformAction("Resume", "go on", lambda there, key: there.groups.resume(key)),
    }

    async def rows(self, platform: AnyPlatform, query: str) -> list[tuple[Any, ...]]:
        """Return the groups."""
        found, _ = await platform.groups.listed()
        return [
            (one["name"], one["waiting"], one["running"], one["workers"], "yes" if one.get("paused") else "")
            for one in found[:_SHOWN]
        ]


@admin.register(ShownLimit)
class LimitAdmin(PlatformAdmin):
    """Limits."""

    columns = ("Name", "By", "At once", "Rate", "Waiting", "Running", "Held back", "Note")

    async def rows(self, platform: AnyPlatform, query: str) -> list[tuple[Any, ...]]:
        """Return the rules."""
        found = await platform.limits.listed()
        return [
            (
                one["name"],
                one["by"],
                one["max_running"] or "",
                one.get("rate") or "",
                one["waiting"],
                one["running"],
                one["parked"],
                one["note"],
            )
            for one in found[:_SHOWN]
        ]


@admin.register(OutboxTask)
class OutboxAdmin(admin.ModelAdmin):
    """Rows of the outbox that have not been submitted yet. One that is refused for ever can be deleted."""

    list_display = ("task_id", "attempts", "problem")
    search_fields = ("task_id", "submission", "problem")

    def has_add_permission(self, request: Any) -> bool:
        """Rows are made by `enqueue` and `submit_in`."""
        return False

    def has_change_permission(self, request: Any, obj: Any = None) -> bool:
        """A row is as it was committed."""
        return False
