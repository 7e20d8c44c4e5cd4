"""The object store and what lies in it: sealed records, sealed file contents, wrapped keys."""
