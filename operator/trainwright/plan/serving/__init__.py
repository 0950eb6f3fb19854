"""The decisions for a ModelDeployment: which version is looked at, gated, published, loaded, tried, live, removed."""
