"""Encoder vectors of datasets, for the stages that take them as an argument."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from japagen.examples import Dataset


def text_vectors(
    datasets: Sequence[Dataset | None],
    encoder: str = "embedded",
    *,
    trust_remote_code: bool = False,
) -> list[npt.NDArray[np.float32]]:
    """Embeds every text, or pair of texts, with a frozen encoder.

    Args:
        datasets: What to embed; None gives no rows, and rejected rows give zeros.
        encoder: ``embedded``, a local directory, or a Hub name.
        trust_remote_code: Whether to run Python code that comes with a checkpoint.

    Returns:
        float32, shape (rows, width) for each dataset, in the order of its rows.

    Raises:
        JapagenError: If the encoder cannot be loaded.
    """
    from japagen.training.encoders import embed, load_encoder

    loaded = load_encoder(encoder, trust_remote_code=trust_remote_code)
    found = []
    for dataset in datasets:
        rows = dataset if dataset is not None else Dataset.of([])
        kept = rows.kept_mask
        read = rows.where(kept)
        pairs = read.column("text_pair") if len(read) and read.is_pair else None
        vectors = embed(loaded, read.texts, pairs)
        filled = np.zeros((len(rows), vectors.shape[1]), dtype=np.float32)
        filled[kept] = vectors
        found.append(filled)
    return found
