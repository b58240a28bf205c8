"""What all daemons share: lifecycle and drain, logs, metrics, health and the admin endpoint.

Knows the process it lives in. Must not know any mode by name.
"""
