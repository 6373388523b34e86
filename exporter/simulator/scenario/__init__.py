"""Runs that a test begins, ends, retries and deletes, with a record of their true states."""
