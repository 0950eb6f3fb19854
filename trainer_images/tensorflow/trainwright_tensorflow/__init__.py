"""Recipes for TensorFlow."""
