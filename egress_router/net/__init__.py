"""Building blocks of the daemons: resolver, dial, listener, relay.

Knows sockets and the event loop. Must not know variables, modes, or what a rule means.

Everything works on asyncio's own loop and on uvloop. Sockets are raw and non-blocking, and every
wait registers the descriptor itself and takes the registration back before the socket is closed:
so a cancelled wait can neither leak a socket nor watch a stranger's that got the same number.
"""
