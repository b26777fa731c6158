"""Measures near-duplicate detection on planted near-copies of real texts.

Each drawn text gets one near-copy of each kind that applies to it: in other widths, with a
particle swapped, with 〜 and ー exchanged or added, in another register by `convert_style`, and
cut or added to by its punctuation. As many texts are drawn that no copy is made of, and hard
negatives replace one content word by another of its class: they say something else in nearly
the same characters, and finding one is counted against precision.

    python benchmarks/dedup.py --data DIR [--texts 400] [--seeds 3] [--semantic]

DIR holds JSONL files, at any depth, whose objects have a "text". The default to compare with
splits on spaces, as English tools do, and takes the exact Jaccard similarity of the words at
its best threshold. --semantic adds the embedded encoder's cosine similarity.

    python benchmarks/dedup.py --data DIR --rows 1000000

times that many rows instead: one to three clauses of the texts in a row, drawn at random, and a
tenth copies of earlier rows with one character changed. Clauses come again hundreds of times, as
set phrases do in what a model writes, so that most rows share a band with others.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import resource
import time
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

from japagen.curation.near_duplicates import Near, find_near_duplicates, find_near_vectors
from japagen.japanese.morphology import Morpheme, tokenize
from japagen.japanese.overlap import plain_form
from japagen.japanese.style.converter import Target, convert_style

SWAPS = {"が": "は", "は": "が", "に": "へ", "へ": "に", "を": "は", "も": "は", "から": "より"}
HALF_KATAKANA = {unicodedata.normalize("NFKC", c): c for c in map(chr, range(0xFF66, 0xFF9E))}
THRESHOLDS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9)
NEGATIVE = "other content word"
STYLES: tuple[Target, ...] = ("polite", "plain", "casual")


def read_texts(folder: Path) -> list[str]:
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            text = json.loads(line).get("text", "")
            found.setdefault(plain_form(text), text)
    return [text for text in found.values() if 10 <= len(text) <= 200]


def in_other_widths(text: str, rng: random.Random) -> str:
    return "".join(
        HALF_KATAKANA.get(c, c) if rng.random() < 0.7 else c
        for c in text.translate({n: n + 0xFEE0 for n in range(0x21, 0x7F)})
    )


def _rebuilt(words: Sequence[Morpheme], index: int, surface: str) -> str:
    return "".join(surface if i == index else w.surface for i, w in enumerate(words))


def with_a_particle_swapped(text: str, rng: random.Random) -> str:
    words = tokenize(text)
    places = [i for i, w in enumerate(words) if w.pos1 == "助詞" and w.surface in SWAPS]
    if not places:
        return text
    place = rng.choice(places)
    return _rebuilt(words, place, SWAPS[words[place].surface])


def drawn_out(text: str, rng: random.Random) -> str:
    if "ー" in text and rng.random() < 0.5:
        return text.replace("ー", "〜")
    body = text.rstrip("。!！?？")
    return body + rng.choice(("〜", "ー", "〜〜", "ー。", "〜！")) + text[len(body) :]


def in_another_register(text: str, rng: random.Random) -> str:
    for target in rng.sample(STYLES, len(STYLES)):
        made = convert_style(text, target).text
        if made and made != text:
            return made
    return text


def punctuated_otherwise(text: str, rng: random.Random) -> str:
    swapped = text.replace("、", "," if rng.random() < 0.5 else "").replace("。", "！")
    return swapped if swapped != text else text + "！！"


KINDS: dict[str, Callable[[str, random.Random], str]] = {
    "width": in_other_widths,
    "particle": with_a_particle_swapped,
    "〜 and ー": drawn_out,
    "register": in_another_register,
    "punctuation": punctuated_otherwise,
}


def other_content(text: str, pool: dict[tuple[str, str], list[str]], rng: random.Random) -> str:
    words = tokenize(text)
    places = [i for i, w in enumerate(words) if len(pool.get((w.pos1, w.cform), ())) > 1]
    if not places:
        return text
    place = rng.choice(places)
    word = words[place]
    others = [s for s in pool[word.pos1, word.cform] if s != word.surface]
    return _rebuilt(words, place, rng.choice(others)) if others else text


def plant(texts: Sequence[str], number: int, seed: int) -> list[tuple[str, int, str]]:
    """Texts with the number of their original and the kind of copy, originals first."""
    rng = random.Random(seed)
    drawn = rng.sample(list(texts), min(2 * number, len(texts)))
    pool: dict[tuple[str, str], list[str]] = defaultdict(list)
    for text in drawn:
        for w in tokenize(text):
            if w.pos1 in ("名詞", "動詞", "形容詞", "形状詞") and len(w.surface) > 1:
                pool[w.pos1, w.cform].append(w.surface)
    rows = [(text, i, "") for i, text in enumerate(drawn)]
    for i, text in enumerate(drawn[:number]):
        for kind, change in KINDS.items():
            made = change(text, rng)
            if made != text:
                rows.append((made, i, kind))
        made = other_content(text, pool, rng)
        if made != text:
            rows.append((made, i, NEGATIVE))
    return rows


Found = list[int | None]


def by_characters(texts: Sequence[str], threshold: float) -> Found:
    return [_row(near) for near in find_near_duplicates(texts, threshold)]


def _row(near: Near | None) -> int | None:
    return None if near is None else near.index


def by_spaces(texts: Sequence[str], threshold: float) -> Found:
    sets = [frozenset(text.split()) for text in texts]
    holders: dict[str, list[int]] = defaultdict(list)
    found: Found = []
    for i, words in enumerate(sets):
        near = [
            j
            for j in dict.fromkeys(j for w in sorted(words) for j in holders[w])
            if len(words & sets[j]) >= threshold * len(words | sets[j])
        ]
        found.append(near[0] if near else None)
        if not near:
            for w in words:
                holders[w].append(i)
    return found


def score(rows: Sequence[tuple[str, int, str]], found: Found) -> dict[str, float]:
    """Share of each kind found as its own original's copy, and precision over all findings."""
    of_kind: Counter[str] = Counter(kind for _, _, kind in rows)
    hits: Counter[str] = Counter()
    for (_, origin, kind), at in zip(rows, found, strict=True):
        if at is not None:
            # A copy may be found by way of another kept text of the same origin.
            own = kind != "" and rows[at][1] == origin
            hits[kind if own else "wrong"] += 1
    wanted = [kind for kind in KINDS if of_kind[kind]]
    right = sum(hits[k] for k in wanted)
    found_in_all = right + hits[NEGATIVE] + hits["wrong"]
    return {
        **{kind: hits[kind] / of_kind[kind] for kind in wanted},
        NEGATIVE: hits[NEGATIVE] / max(of_kind[NEGATIVE], 1),
        "unrelated": hits["wrong"] / max(of_kind[""], 1),
        "recall": right / max(sum(of_kind[k] for k in wanted), 1),
        "precision": right / max(found_in_all, 1),
    }


def rows_of_clauses(texts: Sequence[str], number: int, seed: int) -> list[str]:
    """Rows that share clauses, a tenth of them with one character of an earlier row changed."""
    rng = random.Random(seed)
    clauses = [c for text in texts for c in re.findall(r"[^、。！？\s]+[、。！？]?", text)]
    rows: list[str] = []
    while len(rows) < number:
        if rows and rng.random() < 0.1:
            row = list(rng.choice(rows))
            row[rng.randrange(len(row))] = rng.choice("のはがをにでと")
            rows.append("".join(row))
        else:
            rows.append("".join(rng.choice(clauses) for _ in range(rng.choice((1, 2, 2, 3)))))
    return rows


def time_rows(texts: Sequence[str], number: int) -> None:
    rows = rows_of_clauses(texts, number, 0)
    started = time.process_time()
    found = sum(near is not None for near in find_near_duplicates(rows, 0.7))
    print(
        f"{number:,} rows of {sum(map(len, rows)) / number:.1f} characters: "
        f"{time.process_time() - started:.0f} s of CPU time, "
        f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB, {found:,} found"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--texts", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--semantic", action="store_true")
    parser.add_argument("--rows", type=int, help="Time this many rows; nothing else.")
    arguments = parser.parse_args()
    texts = read_texts(arguments.data)
    if arguments.rows:
        time_rows(texts, arguments.rows)
        return
    print(f"{len(texts)} distinct texts, {arguments.texts} with planted copies")
    results: dict[tuple[str, float], list[dict[str, float]]] = defaultdict(list)
    for seed in range(arguments.seeds):
        rows = plant(texts, arguments.texts, seed)
        plain = [text for text, _, _ in rows]
        for threshold in THRESHOLDS:
            results["characters", threshold].append(score(rows, by_characters(plain, threshold)))
            results["spaces", threshold].append(score(rows, by_spaces(plain, threshold)))
        if arguments.semantic:
            from japagen.data.dataset import Dataset, Example
            from japagen.training.encoder import text_vectors

            dataset = Dataset.of(Example(text, id=str(i)) for i, text in enumerate(plain))
            vectors = text_vectors([dataset])[0]
            for threshold in (0.9, 0.93, 0.95, 0.96, 0.97, 0.98, 0.99):
                near = [_row(n) for n in find_near_vectors(vectors, threshold)]
                results["vectors", threshold].append(score(rows, near))
    names = [*KINDS, NEGATIVE, "unrelated", "recall", "precision"]
    print("\t".join(["by", "threshold", *names]))
    for (how, threshold), scores in sorted(results.items()):
        cells = []
        for name in names:
            values = [s[name] for s in scores]
            mean = sum(values) / len(values)
            cells.append(f"{mean:.3f}±{(max(values) - min(values)) / 2:.3f}")
        print("\t".join([how, f"{threshold:.2f}", *cells]))


if __name__ == "__main__":
    main()
