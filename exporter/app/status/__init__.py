"""What `status` prints, computed from a metrics page."""
