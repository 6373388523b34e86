"""What to query, when, and what follows from an answer."""
