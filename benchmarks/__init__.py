"""What the exporter costs, measured; each file is a program of its own."""
