"""Loads Celeriac's fixtures for all tests in this folder."""

pytest_plugins = ["celeriac.testing.pytest_plugin"]
