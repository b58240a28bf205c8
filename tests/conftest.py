"""Settings that hold for every suite."""

from hypothesis import settings

# No deadline for one example: a machine under load would fail tests that are right.
settings.register_profile("default", deadline=None, max_examples=60)
settings.register_profile("thorough", deadline=None, max_examples=2000)
settings.load_profile("default")
