"""Where a Rakit application keeps its sessions: a module for each driver."""
