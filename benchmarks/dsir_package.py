"""Weights from the package data-selection (github.com/p-lambda/dsir), for comparison only.

Its weights are exp(log importance), as its resampling draws by them. Its default filter, which
drops texts of fewer than 100 tokens, is left off here: `kept_by_default` says what it leaves.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("TQDM_DISABLE", "1")

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def package_weights(source: Sequence[str], target: Sequence[str]) -> tuple[Floats, float]:
    """Weights of ``source``, mean 1, and the share of it that the package's filter would keep."""
    from data_selection import HashedNgramDSIR

    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for name, texts in (("raw", source), ("target", target)):
            path = Path(folder) / f"{name}.jsonl"
            # Escaped, as the package opens files in the locale's encoding.
            path.write_text("".join(json.dumps({"text": t}) + "\n" for t in texts), "ascii")
            paths.append(str(path))
        dsir = HashedNgramDSIR([paths[0]], [paths[1]], f"{folder}/cache", num_proc=1)
        dsir.fit_importance_estimator(num_tokens_to_fit="all")
        dsir.compute_importance_weights()
        log_weights = np.load(next(Path(dsir.log_importance_weights_dir).glob("*.npy")))
        lengths = np.load(next(Path(dsir.perexample_metadata_dir).glob("*.npy")))
        kept = float(dsir.perexample_metadata_filter(lengths).mean())
    weights = np.exp(log_weights - log_weights.max())
    return weights / weights.mean(), kept
