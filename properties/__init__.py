"""Say what must hold: judges the histories that workloads record."""
