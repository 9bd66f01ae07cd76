"""The article's nine claims: each in our words, with its source, the experiment that decides it,
what would confirm it, and a verdict computed from what was measured.
"""

import lazy_loader

__getattr__, __dir__, _ = lazy_loader.attach_stub(__name__, __file__)

__all__ = [
    "CLAIMS",
    "CONNECTING",
    "EXPERIMENT",
    "FREE",
    "HOLDS",
    "IN_PART",
    "KINDS",
    "NEVER",
    "NOT",
    "NOT_MEASURED",
    "NOT_THERE",
    "READ_KINDS",
    "TRIAL",
    "TRIALS",
    "Claim",
    "Compared",
    "Difference",
    "Happened",
    "Mode",
    "Need",
    "Reads",
    "Seen",
    "Sentence",
    "Served",
    "Trial",
    "Verdict",
    "bars",
    "differences",
    "fastest",
    "find_claim",
    "happened",
    "read_programs",
    "read_served",
    "read_trial",
    "steps",
    "trial_folder",
    "trials_of_claims",
]
