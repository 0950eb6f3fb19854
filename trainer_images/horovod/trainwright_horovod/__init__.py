"""Recipes for Horovod."""
