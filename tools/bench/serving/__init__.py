"""What the bench of serving runs by other Pythons than its own: a server that does nothing, a client, artifacts."""
