from .known_deviations import known_findings as known_findings
from .matrix import isolation_matrix as isolation_matrix
