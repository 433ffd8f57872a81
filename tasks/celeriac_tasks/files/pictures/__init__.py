"""Reads pictures without silent damage.

opening.py       opens pictures safely
colours.py       brings their pixels to 8 bits of red, green and blue
colour_tags.py   reads how PNG and AVIF mean their colours
metadata.py      keeps EXIF, turns upright, and notes what cannot be kept

Only the processors and `media.py` use this room.
"""
