"""The tracked state of every pipeline, and the accounting of its runs."""
