"""The numbered, sealed events of a run, and feeds of them: reading without running."""
