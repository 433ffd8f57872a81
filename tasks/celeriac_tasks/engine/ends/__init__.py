"""How tasks end of whose end no attempt tells Celery: lost processes, and what a worker tells it by the record."""
