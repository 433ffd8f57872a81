"""What Celery's operators ask and command (`celery inspect`, `celery control`, Flower), answered from the store.

Celery's own commands look into the memory of a worker, where waiting tasks are not. Each module replaces some of them
in Celery's panel; for apps that are not adopted they do what Celery's own do.
"""
