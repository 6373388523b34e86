"""Files for deploying the exporter, and the code that generates some of them."""
