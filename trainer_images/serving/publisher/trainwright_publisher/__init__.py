"""Reads model artifacts, says what is in them, and is the only one that writes where served models lie."""
