"""Configuration and observed facts become the desired kernel state, as data.

Knows links, addresses, routes, rules and the text of the nftables table, and how two states
differ. Must not know how any of it is read or written, nor sockets, files or clocks.
"""
