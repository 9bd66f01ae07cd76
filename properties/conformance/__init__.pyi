from .contract import CHECKS as CHECKS
from .contract import Check as Check
from .contract import Outcome as Outcome
from .contract import named as named
from .contract_process import held_to as held_to
from .known_deviations import known_breach as known_breach
from .known_deviations import known_findings as known_findings
from .matrix import isolation_matrix as isolation_matrix
