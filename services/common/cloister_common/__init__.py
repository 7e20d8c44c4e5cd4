"""What every Cloister service shares, and nothing with business meaning."""
