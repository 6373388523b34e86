"""Providers: a package for each cloud, which describes requests and decodes responses."""
