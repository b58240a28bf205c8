"""Environment text becomes frozen, typed configuration; the only home of variable names.

Knows the grammars, the defaults and every message. Must not know sockets, files, clocks or the
kernel: the environment, and the text of files that variables point to, are passed in.
"""
