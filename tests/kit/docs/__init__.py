"""A reader of the documentation, who does what a page says: `pages.py` finds its code, `reader.py` runs it."""
