"""One function a chart; and pages of HTML, which stand alone."""

import lazy_loader

__getattr__, __dir__, _ = lazy_loader.attach_stub(__name__, __file__)

__all__ = [
    "CLAIMS",
    "NO_HEADING",
    "Counterexample",
    "Curve",
    "Effect",
    "Heading",
    "Judged",
    "Line",
    "Load",
    "Panel",
    "Room",
    "Served",
    "Stack",
    "Track",
    "abort_rate_against_skew",
    "beside_each_other",
    "caption",
    "checkpoint_timeline",
    "crossover",
    "latency",
    "latency_against_rate",
    "latency_at_load",
    "nothing_to_draw",
    "predicted_against_observed",
    "request_times",
    "run_page",
    "scaling_law",
    "shares",
    "shares_of_a_read",
    "small_multiples",
    "throughput_against_writers",
    "throughput_by_case",
    "verdict_page",
]
