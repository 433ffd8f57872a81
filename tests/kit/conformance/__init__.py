"""One ordinary Celery project and a script of probes: run on stock Celery and here, the outcomes are compared."""
