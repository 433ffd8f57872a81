"""The client for asyncio, written by hand. The blocking one is generated from these files: run `make client`."""
