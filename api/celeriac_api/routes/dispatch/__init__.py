"""The routes of the dispatch API, and of OpenAI clients."""
