"""The clouds on loopback, each checking what the real one checks."""
