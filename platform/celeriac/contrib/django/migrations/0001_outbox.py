"""The table of the outbox."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    """Creates it."""

    initial = True
    dependencies: ClassVar[list[tuple[str, str]]] = []
    operations: ClassVar[list[Any]] = [
        migrations.CreateModel(
            name="OutboxTask",
            fields=[
                ("task_id", models.CharField(max_length=36, primary_key=True, serialize=False)),
                ("submission", models.TextField()),
                ("created_ms", models.BigIntegerField()),
                ("free_ms", models.BigIntegerField(default=0)),
                ("attempts", models.IntegerField(default=0)),
                ("problem", models.TextField(blank=True, default="")),
            ],
            options={
                "verbose_name": "task in the outbox",
                "verbose_name_plural": "tasks in the outbox",
                "db_table": "celeriac_outbox",
                "ordering": ["task_id"],
            },
        ),
    ]
