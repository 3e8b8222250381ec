"""The configuration of a Rakit application, read from its own files."""
