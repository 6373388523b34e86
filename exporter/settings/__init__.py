"""What a configuration means: the settings, their defaults, and how a file is loaded."""
