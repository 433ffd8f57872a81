"""How commands reach a platform: `platform.py` says what they may ask, and there are two ways to ask it.

`direct/` uses the services on the store and the database of an installation, `http/` a server's API. Both answer with
the records of the API, so a command prints the same either way. `destination.py` chooses, `profiles.py` remembers.
"""
