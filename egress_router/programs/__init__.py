"""The programs that run once and end: init, check.

Knows what order things happen in. Must not know netlink, nft syntax or any grammar.
"""
