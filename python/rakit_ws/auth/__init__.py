"""Sources of users: from an opening handshake to who is calling."""
