"""Why transactions were refused, how throughput grows with writers, and which factor decides."""

import lazy_loader

__getattr__, __dir__, _ = lazy_loader.attach_stub(__name__, __file__)

__all__ = [
    "MOST_DRAWN",
    "Blame",
    "Factors",
    "NoAnswer",
    "NotLoaded",
    "Prediction",
    "RefusalAccount",
    "Scaling",
    "blame",
    "conflict_parts",
    "error_of",
    "error_table",
    "factors_of",
    "factors_sentence",
    "factors_table",
    "predict",
    "prediction_table",
    "predictions",
    "refusal_account",
    "scaling_table",
    "scalings",
]
