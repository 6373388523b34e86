"""What is known of every pipeline, and the accounting of its runs."""
