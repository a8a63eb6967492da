"""The control protocol: one schema for server, client and documentation."""
