"""`trainwright publish FOLDER`: an artifact of the user's own machine goes onto a volume of the cluster, and is offered there."""
