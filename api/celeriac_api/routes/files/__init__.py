"""The routes of files: plain uploads and resumable ones (tus)."""
