"""One workload, one file, one registry line."""
