"""One engine, one file, one registry line."""
