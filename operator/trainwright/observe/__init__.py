"""From raw objects to plain facts: workers by attempt, why one waits, how one failed. No clock, no I/O."""
