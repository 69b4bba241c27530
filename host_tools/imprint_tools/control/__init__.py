"""Clients of the clouds' control planes: the same against the real service and a local one."""
