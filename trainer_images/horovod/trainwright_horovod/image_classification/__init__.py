"""Recipe `image-classification`: read `train.py` from top to bottom."""
