"""Who may see a file: the access lists of files, and what a caller sees by them."""
