"""TorchServe as a server of one published version."""
