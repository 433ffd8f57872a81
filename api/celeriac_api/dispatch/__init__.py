"""Calls that remote workers answer: the dispatch API (contract 3) and the same work for OpenAI clients."""
