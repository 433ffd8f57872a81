"""One attempt of a Celery task: its claim, its body (plain function or coroutine), its end, and what follows."""
