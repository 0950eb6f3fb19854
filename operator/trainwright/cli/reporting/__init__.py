"""`trainwright report`: how a job went, as one HTML file that needs nothing beside it.

Data goes one way: the job's object and events, Prometheus (`prom`) or the workspace (`workspace`) → plain facts (`facts`,
`timeline`, `series`) → sentences (`sentences`) and pictures (`charts`) → the page (`page`).
"""
