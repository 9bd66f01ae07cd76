"""Numbers from numbers; nothing here knows a run."""

import lazy_loader

__getattr__, __dir__, _ = lazy_loader.attach_stub(__name__, __file__)

__all__ = [
    "COUNTED",
    "COVERED",
    "FEWEST_BATCHES",
    "FEWEST_BLOCKS",
    "FEWEST_SITTINGS",
    "LEVEL",
    "MOST_BATCHES",
    "PERCENTILES",
    "SHORT",
    "SIGNED_RANK",
    "STEADY",
    "UNSTEADY",
    "Estimate",
    "Family",
    "OverSittings",
    "Ratio",
    "Series",
    "abort_rate",
    "batch_means",
    "batched_rate",
    "block_length",
    "circular_blocks",
    "family_p",
    "jain_index",
    "joined_values",
    "median_of_blocks",
    "over_sittings",
    "percentile_intervals",
    "percentiles",
    "ratio_over_blocks",
    "resampled_percentile",
    "seed_of",
    "signed_rank_p",
    "truncation",
]
