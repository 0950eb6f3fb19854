"""Trainwright's recipes for PyTorch. A recipe is a package here that is run as a program, once a rank."""
