"""The table of the outbox, as Django has it, and what the admin shows of the platform.

`celeriac.outbox.table` has the same columns. What the admin shows has no table: Django has its names and permissions.
"""

from __future__ import annotations

from typing import ClassVar

from django.db import models

from celeriac.outbox.source import TABLE


class OutboxTask(models.Model):
    """A task that is submitted once its transaction has been committed. Moments are milliseconds since the epoch."""

    task_id = models.CharField(max_length=36, primary_key=True)
    submission = models.TextField()
    created_ms = models.BigIntegerField()
    free_ms = models.BigIntegerField(default=0)
    attempts = models.IntegerField(default=0)
    problem = models.TextField(default="", blank=True)

    class Meta:
        db_table = TABLE
        verbose_name = "task in the outbox"
        verbose_name_plural = "tasks in the outbox"
        ordering: ClassVar = ["task_id"]

    def __str__(self) -> str:
        return self.task_id


class Shown(models.Model):
    """Something that the platform has, and no database of the project."""

    class Meta:
        abstract = True
        managed = False
        # `change` allows the actions.
        default_permissions: ClassVar = ("view", "change")


class ShownTask(Shown):
    """A task."""

    class Meta(Shown.Meta):
        verbose_name = "task"
        verbose_name_plural = "tasks"


class ShownDeadLetter(Shown):
    """A task that has failed for good."""

    class Meta(Shown.Meta):
        verbose_name = "dead letter"
        verbose_name_plural = "dead letters"


class ShownDefinition(Shown):
    """A definition, which makes tasks by a schedule."""

    class Meta(Shown.Meta):
        verbose_name = "definition"
        verbose_name_plural = "definitions"


class ShownGroup(Shown):
    """A group, with its pause."""

    class Meta(Shown.Meta):
        verbose_name = "group"
        verbose_name_plural = "groups"


class ShownLimit(Shown):
    """A rule that limits tasks."""

    class Meta(Shown.Meta):
        verbose_name = "limit"
        verbose_name_plural = "limits"
