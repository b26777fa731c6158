"""Japanese text: normalisation, morphology, register, style, personal data."""
