"""The sessions of a Rakit application: from cookies to users."""
