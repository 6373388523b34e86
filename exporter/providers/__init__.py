"""Providers: one folder a cloud. They describe requests and decode answers."""
