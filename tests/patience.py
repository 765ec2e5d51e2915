"""How long a test waits for what must come, on a machine that does other things as well."""

PATIENCE = 100.0  # seconds, after which a test fails instead of hanging; less than the 120 that a POST may take
