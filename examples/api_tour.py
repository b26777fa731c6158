"""A tour of the API: make a task in code, run it, use what came out.

Run it with: python examples/api_tour.py [--per-label 20]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import japagen as jg

CONFIG = Path(__file__).parent.parent / "configs" / "quickstart.yaml"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--per-label", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("runs/api-tour"))
    arguments = parser.parse_args()

    # Any key of the task file can be replaced. A name of its own keeps the runs apart.
    overrides = {"name": "api-tour", "generation.per_label": arguments.per_label}
    task = jg.Task.load(CONFIG, overrides)
    run = jg.run(task, out=arguments.out)

    counts, scores = run.metrics["counts"], run.metrics["scores"]
    print(f"{counts['kept']} of {counts['generated']} texts kept")
    print(f"macro-F1 {scores['with_synthetic']['macro_f1']:.3f}, gain {scores['gain']}")

    for text, prediction in zip(
        texts := ["荷物がまだ届きません。", "アプリが落ちて開けない。"],
        run.classifier.predict(texts),
        strict=True,
    ):
        print(text, prediction.label, round(max(prediction.probabilities.values()), 3))

    # The synthetic texts with registers, rejections and weights.
    for example in list(run.dataset.kept)[:3]:
        preset = example.register_seen.preset if example.register_seen else None
        print(example.label, preset, round(example.weight_distribution, 2), example.text)


if __name__ == "__main__":
    main()
