"""One export from end to end."""
