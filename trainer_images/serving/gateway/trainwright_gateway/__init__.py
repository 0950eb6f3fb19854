"""Between clients and servers of models."""
