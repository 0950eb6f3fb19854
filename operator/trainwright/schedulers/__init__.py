"""Who decides when a gang's pods are made, behind one small protocol. Pure: no clock, no I/O."""
