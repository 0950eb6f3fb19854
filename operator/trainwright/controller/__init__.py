"""The operator at work: events become keys, keys become passes, passes carry out plans."""
