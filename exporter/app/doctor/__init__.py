"""Ask each provider what works and what is missing, for the first contact with a cloud."""
