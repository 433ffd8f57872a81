"""The HTTP API as a client uses it: requests, answers, and what is done when one of them is lost.

access.py        what tasks need of a connection, over HTTP
api.py           sends a request until an answer comes that counts
following.py     follows a task by its event streams
wire.py          sends requests over httpx; the only module that imports it
calls.py         a request and its answer, as data
retrying.py      decides whether a request is sent again
event_stream.py  reads server-sent events
clock.py         the time, which tests replace
"""
