"""Destination rules: target text becomes a normalised target, and that a decision with its reason.

Knows names, addresses, ports and rule order. Must not resolve, dial, or know HTTP beyond the two
ways a request names its target.
"""
