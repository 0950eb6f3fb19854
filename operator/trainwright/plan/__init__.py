"""Decisions: from a job, what is observed of it and the time, to what should be done. Pure; one policy a file."""
