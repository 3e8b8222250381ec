"""Who is connected, who hears what, and the hooks that are told of it."""
