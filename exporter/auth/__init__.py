"""Authentication: a request and a key in, the headers that prove the identity out. One folder a vendor."""
