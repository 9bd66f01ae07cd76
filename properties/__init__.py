"""Say what must hold: the checker of histories, its explanations, and the property tests."""
