"""What the admin shows, for Django's permissions; it has no tables."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import migrations, models


def _shown(name: str, one: str, several: str) -> Any:
    key = ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID"))
    options = {
        "verbose_name": one,
        "verbose_name_plural": several,
        "abstract": False,
        "default_permissions": ("view", "change"),
        "managed": False,
    }
    return migrations.CreateModel(name=name, fields=[key], options=options)


class Migration(migrations.Migration):
    """Makes their permissions."""

    dependencies: ClassVar[list[tuple[str, str]]] = [("celeriac", "0001_outbox")]
    operations: ClassVar[list[Any]] = [
        _shown("ShownTask", "task", "tasks"),
        _shown("ShownDeadLetter", "dead letter", "dead letters"),
        _shown("ShownDefinition", "definition", "definitions"),
        _shown("ShownGroup", "group", "groups"),
        _shown("ShownLimit", "limit", "limits"),
    ]
