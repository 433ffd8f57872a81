"""Celery's own integration tests, on a stock app and on apps of ours, and what differs.

    make celery-suite                                   # all files
    make celery-suite ARGS="test_canvas test_tasks"     # some of them

The tests are those of the installed Celery's sdist. pip downloads it into a cache; nothing of it is kept here, and no
test of it is changed. `apps.py` is a pytest plugin that hands the tests another app. `expected.toml` lists the tests
that may differ, each with its reason.
"""
