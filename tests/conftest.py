"""Fixtures of all suites. What is real here: the control plane (etcd, kube-apiserver, kube-controller-manager), when a test asks for it."""

from __future__ import annotations
