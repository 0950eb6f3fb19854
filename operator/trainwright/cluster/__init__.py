"""The port to a cluster and its two adapters: a real API server and one process's memory."""
