"""`capacity`: a gang's pods are made when all of them fit on the nodes there are; until then it waits in a queue.

`amounts`: what pods ask for and nodes have. `nodes`: which nodes a worker may go to. `fit`: where a gang's workers go.
`queue`: who goes first. `preemption`: who makes room. `lines`: why one waits, in one line.
"""
