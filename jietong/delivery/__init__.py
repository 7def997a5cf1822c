"""The promise, and nothing else: outbox, relay, heads, positions, inbox, consumer, completeness."""
