"""What tests are made with, and no test: servers, programs, clients, task types, and waiting.

At the top is what every test may need; `api` has the application and its clients, `workers` real Celery workers and
what they run, `executors` gRPC services, `files` media and processors, `remote` remote workers and JavaScript, `up` the
whole platform and a browser, `chaos` the processes that are killed.
"""
