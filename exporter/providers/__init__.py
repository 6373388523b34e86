"""Providers: one package a cloud, which describes requests and decodes responses."""
