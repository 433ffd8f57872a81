"""What Django's admin shows of the platform, and what it does; and what a page gets to show progress."""

from __future__ import annotations

import asyncio

import jwt

from tests.integration.django.test_backend import BEGIN
from tests.kit.django.project import DjangoProject

ADMIN = """
import contextlib
import re
from celeriac.errors import TaskNotFoundError
from django.contrib.auth.models import Permission, User
from django.test import Client

def signed_in(name, **more):
    user = User.objects.filter(username=name).first() or User.objects.create_user(name, **more)
    client = Client(headers={"host": "localhost"})
    client.force_login(user)
    return client

def until(work):
    for _ in range(600):
        # Until the relay has submitted it, a task has no record.
        with contextlib.suppress(TaskNotFoundError):
            if (found := work()):
                return found
        time.sleep(0.1)
    raise AssertionError("it does not come")

admin = signed_in("root", is_staff=True, is_superuser=True)
page = lambda name, query="": admin.get(f"/admin/celeriac/{name}/{query}").content.decode()
"""


async def script(project: DjangoProject, body: str) -> object:
    return await asyncio.to_thread(project.script, BEGIN + ADMIN + body)


async def test_tasks_and_dead_letters_are_listed_and_run_again(running: DjangoProject) -> None:
    value = await script(
        running,
        """
failed = ended(refuse.using(backend="at_once").enqueue(41))
listed = until(lambda: (text := page("showndeadletter")) and failed.id in text and text)
value = [
    "there is no order 41" in listed,
    failed.id in until(lambda: failed.id in (text := page("showntask", "?q=type:orders.tasks.refuse")) and text),
    failed.id in page("showntask", "?q=type:orders.tasks.count_orders"),
    "errornote" in page("showntask", "?q=colour:red"),
]
answer = admin.post("/admin/celeriac/showndeadletter/", {"action": "retry", "key": [failed.id]}, follow=True)
value.append("1 dead letters wait for a worker again." in answer.content.decode())
value.append(until(lambda: refuse.get_result(failed.id).attempts == 2))
""",
    )
    assert value == [True, True, False, True, True, True]


async def test_groups_are_paused_and_go_on(running: DjangoProject) -> None:
    value = await script(
        running,
        """
ended(count_orders.using(backend="at_once").enqueue())
value = []
for action in ("pause", "resume"):
    answer = admin.post("/admin/celeriac/showngroup/", {"action": action, "key": ["default"]}, follow=True)
    text = answer.content.decode()
    value.append(["default" in text, "<td>yes</td>" in text, "errornote" in text])
value.append(["Nothing here" in page("shownlimit"), "Nothing here" in page("showndefinition")])
value.append([admin.get("/admin/celeriac/outboxtask/").status_code])
""",
    )
    assert value == [[True, True, False], [True, False, False], [True, True], [200]]


async def test_who_may_only_view_changes_nothing(running: DjangoProject) -> None:
    value = await script(
        running,
        """
viewer = signed_in("viewer", is_staff=True)
user = User.objects.get(username="viewer")
before = viewer.get("/admin/celeriac/showngroup/").status_code
user.user_permissions.add(Permission.objects.get(codename="view_showngroup"))
viewer.force_login(User.objects.get(pk=user.pk))
shown = viewer.get("/admin/celeriac/showngroup/")
refused = viewer.post("/admin/celeriac/showngroup/", {"action": "pause", "key": ["default"]})
value = [before, shown.status_code, "Choose default" in shown.content.decode(), refused.status_code]
""",
    )
    assert value == [403, 200, False, 403]


async def test_a_user_gets_a_token_for_their_own_tasks(running: DjangoProject) -> None:
    value = await script(
        running,
        """
ada = signed_in("ada")
ada.post("/orders/", {"customer": "Ada", "pieces": "1"})
order = Order.objects.latest("pk")
page = ada.get(f"/orders/{order.pk}/").content.decode()
given = ada.get("/celeriac/token/").json()
value = [
    Client(headers={"host": "localhost"}).get("/celeriac/token/").status_code,
    given,
    str(User.objects.get(username="ada").pk),
    f'data-celeriac-task="{order.task_id}"' in page and "/celeriac/progress.js" in page,
    [ada.get(f"/celeriac/{name}").status_code for name in ("progress.js", "client.js", "else.js")],
    until(lambda: pack.task(order.task_id).record().user_id),
]
""",
    )
    assert isinstance(value, list)
    anonymous, given, user_id, has_tag, scripts, owner = value
    claims = jwt.decode(given["token"], options={"verify_signature": False})
    assert (anonymous, has_tag, scripts) == (401, True, [200, 200, 404])
    assert (claims["sub"], claims["scope"], claims["exp"] - claims["iat"]) == (user_id, "read", 300)
    assert (given["user_id"], owner) == (user_id, user_id)
