"""Remote workers as Celery's monitors (Flower, `celery inspect`) see workers of Celery's own."""
