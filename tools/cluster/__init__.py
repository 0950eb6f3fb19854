"""A real Kubernetes cluster of one node on this machine, for the end-to-end tests.

Control plane, containerd, kubelet, kube-proxy and CoreDNS are processes of the machine. It needs root on Linux, and packages of
Debian's. Nothing but files under its own folders, two bridges and rules of kube-proxy's are made, and all of it goes again.
`python -m cluster up` and `down` are its hand-operated side.
"""
