"""Adapters to other programs: each imports the core only, and is imported by name with its extra installed."""
