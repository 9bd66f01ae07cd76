"""Pages: one HTML file each that stands alone, for a run and for the verdicts of histories."""
