"""Trainwright: distributed training on Kubernetes, from `kubectl apply` to a trained model."""

__version__ = "0.1.0"
