"""State that survives a restart: its records, saving after each poll, and the SQLite file."""
