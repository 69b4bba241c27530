"""The factory server: it gives units their identity, and its portal takes them into service."""
