"""Trainwright's recipes for scikit-learn. A recipe is a package here that is run as a program, once a worker."""
