"""Orders."""

from django.db import migrations, models


class Migration(migrations.Migration):
    """Creates the table."""

    initial = True
    dependencies = []
    operations = [
        migrations.CreateModel(
            name="Order",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("customer", models.CharField(max_length=100)),
                ("pieces", models.PositiveIntegerField(default=1)),
                ("packed_at", models.DateTimeField(blank=True, null=True)),
                ("task_id", models.CharField(blank=True, default="", max_length=36)),
            ],
        ),
    ]
