"""Orders."""

from django.db import models


class Order(models.Model):
    """One order, with the task that packs it."""

    customer = models.CharField(max_length=100)
    pieces = models.PositiveIntegerField(default=1)
    packed_at = models.DateTimeField(null=True, blank=True)
    task_id = models.CharField(max_length=36, blank=True, default="")

    def __str__(self) -> str:
        return f"order {self.pk} of {self.customer}"
