"""The doctor program: gathers facts of this pod side by side, has them judged, and tells.

Knows how to ask the kernel, the daemons and the network, within the privileges it has. Must not
know what a fact means: that is `diagnosis`.
"""
