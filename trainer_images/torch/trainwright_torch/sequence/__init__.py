"""Recipe `sequence`: read `train.py` from top to bottom; the other modules are what it names."""
