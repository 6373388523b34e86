"""What survives a restart: encoding, saving, the SQLite file."""
