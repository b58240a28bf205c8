"""The only room that talks to the kernel: netlink through pyroute2, nftables through libnftables.

Knows how to observe, dry-run and apply the states that `plan` describes. Must not know variables,
defaults or grammars, and decides nothing.
"""
