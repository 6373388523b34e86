"""The vendors' own SDKs: each is installed into an environment of its own, and does there what a test asks it to."""
