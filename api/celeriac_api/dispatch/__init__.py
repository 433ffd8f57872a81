"""Calls that remote workers answer: the dispatch API (docs/dispatch.md) and the same work for OpenAI clients."""
