"""The scheduler in hours of virtual time against a simulated server."""
