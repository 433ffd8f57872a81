# Generated from ../asynchronous/__init__.py by tools/generate_sync_client.py: edit that file and run `make client`.
"""The client for blocking code. These files are generated: edit `asynchronous/` and run `make client`."""
