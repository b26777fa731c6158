"""Japanese text: normalisation, morphology, register."""
