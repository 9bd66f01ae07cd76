"""Count and tell: rates, figures, the report and the cwkit command."""
