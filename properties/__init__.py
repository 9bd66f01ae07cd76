"""Say what must hold: the isolation checker and the property tests. Imports workloads."""
