"""Count and tell: rates, figures, the report, the command line. Imports workloads, properties."""
