"""Metric families about pipelines, in a module for each subject, and their catalogue."""
