"""The steps of a run, as `japagen.pipeline.run.STAGES` names them."""
