"""The programs that run once and end: init, check, explain, doctor.

Knows what order things happen in. Must not know netlink, nft syntax or any grammar.
"""
