"""Poll the clouds: which pipelines to query, when, and how to apply the responses."""
