"""Clients of the clouds' control planes: the same code against the real service and a local one."""
