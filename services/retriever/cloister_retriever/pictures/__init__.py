"""Pictures out of files: kept sealed, found by what they show, and fetched."""
