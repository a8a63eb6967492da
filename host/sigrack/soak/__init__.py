"""Long runs that try to break the host, and say whether they have."""
