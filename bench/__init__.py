"""Benchmarks: ratios taken in one run, on this machine, in namespaces of their own."""
