"""The local twin: a real control plane on loopback, a node made of processes, and `trainwright run` without either."""
