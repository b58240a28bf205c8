"""Facts about a router pod become findings: what holds, what does not, why, and what to do.

Knows the usual causes and their remedies. Must not know how a fact is gathered: no sockets, files,
clocks or kernel.
"""
