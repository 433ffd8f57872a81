"""Calls that remote workers answer, for the dispatch API (docs/dispatch.md) and for OpenAI clients."""
