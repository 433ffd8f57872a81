"""`{% load celeriac %}`, and `{% celeriac_progress order.task_id %}` where its progress is to be shown."""

from __future__ import annotations

from typing import Any

from django import template
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

register = template.Library()


@register.simple_tag(takes_context=True)
def celeriac_progress(context: Any, task_id: object) -> SafeString:
    """Return an element that shows how far a task of the signed-in user is, live.

    `task_id` is the id, or a result of `enqueue`. Without one, nothing is shown. The element sends the event
    `celeriac:task` with each change.
    """
    found = getattr(task_id, "id", task_id)
    if not found:
        return SafeString("")
    # From Django's own context processor, or from the package django-csp.
    nonce = context.get("csp_nonce") or getattr(context.get("request"), "csp_nonce", None)
    return format_html(
        '<span class="celeriac-progress" data-celeriac-task="{}" data-token="{}"><progress max="100"></progress> '
        '<span data-part="message" aria-live="polite"></span></span><script type="module" src="{}"{}></script>',
        found,
        reverse("celeriac:token"),
        reverse("celeriac:script", args=["progress.js"]),
        format_html(' nonce="{}"', nonce) if nonce else "",
    )
