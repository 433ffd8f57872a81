"""The shop: what is ordered is packed, and a receipt is sent; what fails leaves nothing behind."""

from unittest import mock

from django.contrib.auth.models import User
from django.test import TestCase, TransactionTestCase

from celeriac.contrib.django.models import OutboxTask
from celeriac.testing import run_task
from orders.models import Order
from orders.tasks import pack, send_receipt, surroundings


class Orders(TestCase):
    """Orders, without a worker: what is submitted is a row."""

    def test_an_order_and_its_tasks_are_one_transaction(self) -> None:
        self.client.force_login(User.objects.create_user("ada"))
        self.client.post("/orders/", {"customer": "Ada", "pieces": "2"})
        order = Order.objects.get()
        rows = {row.task_id: row.submission for row in OutboxTask.objects.all()}
        self.assertIn(order.task_id, rows)
        self.assertEqual(len(rows), 2)
        self.assertTrue(all(f'"user_id":"{User.objects.get().pk}"' in one for one in rows.values()))

    def test_an_order_that_fails_leaves_no_task(self) -> None:
        with mock.patch.object(Order, "save", side_effect=RuntimeError), self.assertRaises(RuntimeError):
            self.client.post("/orders/", {"customer": "Ada"})
        self.assertFalse(OutboxTask.objects.exists())

    def test_a_task_of_django_is_called_as_it_is(self) -> None:
        self.assertEqual(surroundings.call(), {"language": "en", "zone": "Europe/Berlin"})
        self.assertEqual(send_receipt.using(backend="at_once").queue_name, "mail")


class Packing(TransactionTestCase):
    """The task type of Celeriac. It runs in a thread of its own, which sees what has been committed."""

    def test_an_order_is_packed_piece_by_piece(self) -> None:
        order = Order.objects.create(customer="Ada", pieces=1)
        done = run_task(pack, {"order": order.pk})
        self.assertEqual(done.result, 1)
        order.refresh_from_db()
        self.assertIsNotNone(order.packed_at)
