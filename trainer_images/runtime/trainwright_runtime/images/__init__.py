"""What `image-classification` is in every framework: its settings, its data, its order, its scores."""
