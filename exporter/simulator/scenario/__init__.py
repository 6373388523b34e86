"""Runs that tests begin, end, retry and delete, and the truth about them."""
