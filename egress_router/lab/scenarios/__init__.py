"""One module for each mode that the demonstration shows; each defines one `SCENARIO`.

A new mode is a new module here and no edit elsewhere.
"""
