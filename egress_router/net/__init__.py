"""Building blocks of the daemons: resolver, dial, listener, relay.

Knows sockets and the event loop. Must not know variables, modes, or what a rule means.
"""
