"""Models that rest while nobody uses them, and are woken by the next request, which is held meanwhile."""
