"""Measures style conversion on real texts: what converts, what is refused, what comes back.

A round trip converts a text, converts the result back and compares. It is exact, or equal but
for one of the variants that one style does not tell apart (高くないです and 高くありません are
both 高くない), or refused on the way back, or different, which is a fault.

    python benchmarks/conversion.py --data DIR [--show 20]

DIR holds JSONL files, at any depth, whose objects have a "text".
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from japagen.japanese.morphology import tokenize
from japagen.japanese.style.converter import convert_style

Target = Literal["polite", "plain"]
BACK: dict[Target, Target] = {"plain": "polite", "polite": "plain"}
# Forms that the other style merges with another, by the style that has them.
VARIANTS: dict[Target, dict[str, re.Pattern[str]]] = {
    "polite": {
        "ないです for ません": re.compile("(?:ない|なかった|無い)(?:ん)?です"),
        "んです for のです": re.compile("ん(?:です|でし|でしょう)"),
        "じゃ for では": re.compile("じゃ"),
        "short てる, ちゃう, とく": re.compile(
            "[てで](?:ます|まし|ませ)|ちゃ|じゃい|[とど]き(?:ま)"
        ),
        "polite ので, から, し, と, たら, て clause": re.compile(
            "(?:です|ます|ました|ません|でした)(?:ので|のに|から|し|と)|(?:まし|でし)(?:たら|て)"
        ),
        "plain が, けど clause": re.compile("[いうくすつぬむるただ](?:が|けど|けれど)"),
        "polite が, けど clause": re.compile(
            "(?:です|ます|ました|ません|でした)(?:が|けど|けれど)"
        ),
        "sentences in both styles": re.compile("(?<=.)[。!！?？\\s]+(?=.)"),
        "であります for です": re.compile("で(?:あり|ござい)ま"),
    },
    "plain": {
        "である for だ": re.compile("で(?:ある|あっ|あろ)"),
        "んだ for のだ": re.compile("ん(?:だ|です)"),
        "short てる, ちゃう, とく": re.compile("[てで][るたな]|ちゃ|じゃ[うっ]|[とど][くい]"),
        "じゃ for では": re.compile("じゃ"),
        "ずる for じる": re.compile("ずる"),
        "polite clause in a plain sentence": re.compile("です|ます|まし|ません|でし"),
    },
}


def read_texts(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*.jsonl")):
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                text = json.loads(line).get("text")
                if isinstance(text, str):
                    yield text


def round_trip(text: str, there: str, to: Target) -> tuple[str, str]:
    """Returns "exact", "variant", "refused" or "different" and its detail."""
    back = convert_style(there, BACK[to])
    if back.refused:
        return "refused", back.refused
    if back.text == text:
        return "exact", ""
    names = [n for n, pattern in VARIANTS[BACK[to]].items() if pattern.search(text)]
    if names and _full(convert_style(back.text, to).text) == _full(there):
        return "variant", names[0]
    return "different", back.text


def _full(text: str) -> str:
    """Writes out what polite speech may shorten and plain writing may not; である as だ."""
    text = re.sub("ん(?=で[すし])", "の", text).replace("じゃ", "では")
    return re.sub("であ(?=[っろ])", "だ", text).replace("である", "だ")


def measure(texts: Sequence[str], to: Target, show: int) -> None:
    counts: Counter[str] = Counter()
    trips: Counter[str] = Counter()
    refusals: Counter[str] = Counter()
    details: dict[str, Counter[str]] = defaultdict(Counter)
    different = []
    for text in texts:
        done = convert_style(text, to)
        if done.refused:
            counts["refused"] += 1
            refusals[done.refused.split(":")[0]] += 1
        elif done.text == text:
            counts["already there or without a predicate"] += 1
        else:
            counts["converted"] += 1
            outcome, detail = round_trip(text, done.text, to)
            trips[outcome] += 1
            details[outcome][detail.split(":")[0]] += 1
            if outcome == "different":
                different.append((text, done.text, detail))
    print(f"\nto {to}: " + ", ".join(f"{k} {v / len(texts):.1%}" for k, v in counts.items()))
    print("  refused: " + ", ".join(f"{k} {v}" for k, v in refusals.most_common(8)))
    total = max(counts["converted"], 1)
    print(
        f"  round trips of {counts['converted']}: "
        + ", ".join(f"{k} {v} ({v / total:.1%})" for k, v in trips.most_common())
    )
    for outcome in ("variant", "refused"):
        if details[outcome]:
            named = ", ".join(f"{k} {v}" for k, v in details[outcome].most_common(6))
            print(f"  {outcome} back: {named}")
    for text, there, back in different[:show]:
        print(f"  - {text}\n    {there}\n    {back}")


def print_speed(texts: Sequence[str], to: Target) -> None:
    for text in texts:  # fills the tagger's cache
        tokenize(text)
    # CPU time, so that other work on the machine does not count.
    started = time.process_time()
    for text in texts:
        convert_style(text, to)
    print(f"to {to}: {len(texts) / (time.process_time() - started):,.0f} texts per CPU second")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with JSONL files")
    parser.add_argument("--show", type=int, default=0, help="differing round trips to print")
    args = parser.parse_args()
    texts = list(dict.fromkeys(read_texts(args.data)))
    print(f"{len(texts)} distinct texts in {args.data}")
    for to in BACK:
        measure(texts, to, args.show)
    for to in BACK:
        print_speed(texts, to)


if __name__ == "__main__":
    main()
