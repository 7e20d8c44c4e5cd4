"""The kinds of files that are read, one module each, and the table of them."""
