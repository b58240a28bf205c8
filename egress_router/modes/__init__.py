"""One small program per mode, each behind the one `Mode` protocol and found by its entry point."""
