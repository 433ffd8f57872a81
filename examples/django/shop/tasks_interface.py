"""Django's tasks: those of Django 6, or of the package django-tasks before."""

import django

if django.VERSION >= (6,):
    from django.tasks import TaskContext, task
else:
    from django_tasks import TaskContext, task

__all__ = ["TaskContext", "task"]
