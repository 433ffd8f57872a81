"""Shows remote workers to Celery's monitors (Flower, `celery inspect`) as if they were Celery workers."""
