"""Files: uploaded documents, sealed while they stream in."""
