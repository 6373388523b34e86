"""What survives a restart: records, saving after each poll, and the SQLite file."""
