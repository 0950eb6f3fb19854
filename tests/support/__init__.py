"""What several suites share: builders, a scripted kubelet, a throw-away control plane."""
