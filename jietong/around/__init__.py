"""Wrappers around one call: metrics, retries, logs."""
