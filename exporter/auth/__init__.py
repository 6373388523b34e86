"""Authentication: create the headers that authenticate a request. One folder per vendor, no I/O."""
