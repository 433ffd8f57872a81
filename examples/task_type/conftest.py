"""Celeriac's fixtures for all tests of this folder."""

pytest_plugins = ["celeriac.testing.pytest_plugin"]
