"""`trainwright-launch`: the first process of a worker's pod.

cli -> program (what to start) -> supervisor (starts it, watches it) -> verdict (how it ended, in words). Beside the ranks:
preflight (is this pod able to train) and server (/metrics, /progress, /healthz). It imports no framework, and starts the
ranks before it imports anything that they don't wait for.
"""
