"""Values and helpers without dependencies on other packages."""
