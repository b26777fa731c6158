"""Measures how long japagen takes to be imported and to answer, before it does any work.

    python benchmarks/imports.py [--rounds 15]

Each command is a process of its own. Commands take turns, so that other work on the machine falls
on all of them; compare the ratios to a Python that does nothing, not the seconds.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time

NOTHING = "python -c pass"
COMMANDS = {
    NOTHING: ["-c", "pass"],
    "import japagen": ["-c", "import japagen"],
    "japagen --version": ["-m", "japagen", "--version"],
    "japagen --help": ["-m", "japagen", "--help"],
    "import japagen.pipeline.run": ["-c", "import japagen.pipeline.run"],
}


def seconds(arguments: list[str]) -> tuple[float, float]:
    """On the clock and of the processor."""
    began, used = time.perf_counter(), processor()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began, processor() - used


def processor() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    for turn in range(options.rounds + 1):
        for name, arguments in COMMANDS.items():
            found = seconds(arguments)
            if turn:  # the first time, files come from the disk
                taken[name].append(found)
    medians = {
        name: [statistics.median(column) for column in zip(*rows, strict=True)]
        for name, rows in taken.items()
    }
    base = medians[NOTHING][1]
    print("| | seconds | processor seconds | ratio |\n|---|---|---|---|")
    for name, (wall, used) in medians.items():
        print(f"| `{name}` | {wall:.2f} | {used:.3f} | {used / base:.1f} |")


if __name__ == "__main__":
    main()
