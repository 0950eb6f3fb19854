"""Recipes for TensorFlow."""

import os

# TensorFlow's notices about the build and absent GPUs would be most of the log of a short training; errors are still written. It
# reads this when it is loaded, which is after this package.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
