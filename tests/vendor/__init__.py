"""tests/vendor."""
