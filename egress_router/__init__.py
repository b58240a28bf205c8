"""Egress router: pod traffic leaves for outside servers from one reserved source address."""

__version__ = "0.1.0"
