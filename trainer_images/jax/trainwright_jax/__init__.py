"""Recipes for JAX."""
