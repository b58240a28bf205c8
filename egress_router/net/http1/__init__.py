"""HTTP/1.1 messages as values: bytes in, values and bytes out (RFC 9110, RFC 9112).

Knows the grammar, body framing and what a proxy must change on the way. Must not know sockets, the
event loop, clocks, or whether a target is allowed. What is not plainly right is refused, never
repaired: two readers of one message must not come to two messages.
"""
