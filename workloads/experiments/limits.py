"""The most that may be asked of an experiment: `cwkit sweep --help` says it and loads no model."""

MOST_SPARES = 2
"""How often a cell that something came between may be run again at once."""
