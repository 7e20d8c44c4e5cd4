"""``/v1/batches``: requests by the thousand, from a file into files, done when nobody waits for the models."""
