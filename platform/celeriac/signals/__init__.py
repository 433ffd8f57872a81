"""Signals: what a task is told while it waits. Here are the parts that need no store; handlers and services use them.

`schemas.py` compares a value with a JSON schema, `links.py` makes and reads the tokens of `/a/TOKEN`, and `records.py`
has waits and steps as front doors write them.
"""
