"""The embedded lab: network namespaces that play client, node, router pod, outside LAN and partner.

Carries the demonstration and the tests that need a real kernel. Nothing else imports it.
"""
