"""Drift detection: whether new texts still look like those a classifier was trained for.

Next to a classifier lies a profile of texts that it was not trained on: hashed word counts,
registers, lengths and predicted probabilities, from which no text can be read. New texts are
compared with it by permutation tests, so that 50 texts and 50,000 are judged by the same rule.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from zipfile import BadZipFile

import numpy as np
from scipy import sparse

from japagen.data.dataset import Dataset
from japagen.data.files import atomic
from japagen.data.labels import Floats, Ints
from japagen.errors import DamagedError, JapagenError
from japagen.japanese.morphology import tokenize
from japagen.japanese.normalization import normalize
from japagen.japanese.register.detector import RegisterAnalyzer
from japagen.japanese.registers import OTHER, PRESETS

if TYPE_CHECKING:
    from japagen.training.classifier import Classifier

FILE = "reference.npz"
_BUCKETS = 2**15
_REGISTERS = (*PRESETS, OTHER)
_PERMUTATIONS = 499
_SIGNIFICANCE = 0.01
# Most texts of either side that tests look at; more would only find ever smaller differences.
_MOST = 2000
_LEAST = 20
_FEW_WORDS = 20
Verdict = Literal["steady", "watch", "retrain"]
# The least change that matters, whatever its significance. Words: bits of Jensen-Shannon
# divergence beyond what two samples of one population of these sizes show.
_MATTERS = {"words": 0.02, "registers": 0.1, "length": 0.1, "labels": 0.1, "confidence": 0.05}
# A change of the predictions weighs more than one of the texts.
_OUTPUTS = ("labels", "confidence")


@dataclass(frozen=True, eq=False)
class Profile:
    """The statistics that are kept of a sample of texts.

    Attributes:
        words: Shape (n, buckets): hashed counts of lemmas.
        registers: Shape (n,): index into the names of registers.
        lengths: Shape (n,): characters.
        probabilities: Shape (n, labels): what the classifier gave.
        labels: Names of the labels.
    """

    words: sparse.csr_array
    registers: Ints
    lengths: Ints
    probabilities: Floats
    labels: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.lengths)

    def take(self, rows: Ints) -> Profile:
        """The profile of some of the texts."""
        return Profile(
            self.words[rows],
            self.registers[rows],
            self.lengths[rows],
            self.probabilities[rows],
            self.labels,
        )

    def save(self, directory: Path) -> None:
        """Writes the profile into a directory."""
        with atomic(directory / FILE) as temporary, temporary.open("wb") as file:
            np.savez_compressed(
                file,
                data=self.words.data,
                indices=self.words.indices,
                indptr=self.words.indptr,
                registers=self.registers,
                lengths=self.lengths,
                probabilities=self.probabilities,
                labels=np.array(self.labels),
            )

    @classmethod
    def load(cls, directory: Path) -> Profile:
        """Reads what `save` wrote.

        Args:
            directory: A run, or a classifier with the profile in or beside its directory.

        Raises:
            JapagenError: If there is none, which is so for a classifier that was trained without
                test and unlabelled texts.
            DamagedError: If it is not whole.
        """
        places = (directory / FILE, directory.resolve().parent / FILE)
        path = next((p for p in places if p.is_file()), places[0])
        if not path.is_file():
            raise JapagenError(
                f"Expected {path} to compare with, found no such file.",
                "A run writes it where the task has test or unlabelled texts.",
            )
        try:
            with np.load(path, allow_pickle=False) as found:
                shape = (len(found["lengths"]), _BUCKETS)
                words = sparse.csr_array(
                    (found["data"], found["indices"], found["indptr"]), shape=shape
                )
                return cls(
                    words,
                    found["registers"],
                    found["lengths"],
                    found["probabilities"],
                    tuple(found["labels"].tolist()),
                )
        except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error) as error:
            raise DamagedError(path) from error


def profile(texts: Sequence[str], probabilities: Floats, labels: Sequence[str]) -> Profile:
    """Computes the profile of a sample of texts.

    Args:
        texts: The texts; pairs joined by a line break.
        probabilities: Shape (n, labels): what the classifier gave.
        labels: Names of the labels.
    """
    rows = [Counter(map(_bucket, _lemmas(text))) for text in texts]
    indptr = np.cumsum([0, *map(len, rows)])
    indices = np.array([b for row in rows for b in row], dtype=np.int64)
    data = np.array([n for row in rows for n in row.values()], dtype=np.float64)
    words = sparse.csr_array((data, indices, indptr), shape=(len(texts), _BUCKETS))
    seen = RegisterAnalyzer().registers(texts)
    registers = np.array([_REGISTERS.index(register.name) for register in seen], dtype=np.int64)
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    return Profile(words, registers, lengths, np.asarray(probabilities, float), tuple(labels))


def profile_of(examples: Dataset, classifier: Classifier, known: Floats | None = None) -> Profile:
    """Classifies at most a few thousand texts, and computes their profile.

    Args:
        examples: Texts or pairs; labels are not read.
        classifier: Whose answers are kept.
        known: Its answers for the first of them, if it was asked before.
    """
    rows = _sample(len(examples), np.random.default_rng(0))
    examples = examples.take(rows)
    if known is None or not len(known):
        known = np.zeros((0, classifier.space.outputs))
    known = known[rows[rows < len(known)]]
    new = examples.take(range(len(known), len(rows)))
    given = [known, classifier.probabilities(new.texts, new.column("text_pair"))]
    named = classifier.space.by_name(np.concatenate(given))
    return profile(examples.joined_texts, named, classifier.labels)


@dataclass(frozen=True)
class Check:
    """One comparison of new traffic with the reference.

    Attributes:
        name: "words" (Jensen-Shannon divergence in bits, beyond chance), "registers" and
            "labels" (total variation, 0 to 1), "length" (Kolmogorov-Smirnov distance, 0 to 1),
            "confidence" (loss of the mean highest probability, 0 to 1).
        value: The distance, less what chance alone would show.
        p_value: How often chance alone shows as much, adjusted for the number of checks (Holm).
        drifted: Whether it is significant and large enough to matter.
        detail: Figures of both sides for a reader.
    """

    name: str
    value: float
    p_value: float
    drifted: bool
    detail: dict[str, Any]


@dataclass(frozen=True)
class Drift:
    """The result of a comparison.

    Attributes:
        verdict: "steady"; "watch" where what is read has changed; "retrain" where what the
            classifier answers has: its confidence or the share of its labels.
        checks: Every comparison.
        new_words: Words of the new texts of which the reference has none, most frequent first,
            with the number of texts that have them.
        reference: Number of texts of the reference.
        new: Number of new texts.
    """

    verdict: Verdict
    checks: tuple[Check, ...]
    new_words: dict[str, int]
    reference: int
    new: int

    def to_dict(self) -> dict[str, Any]:
        """Returns a JSON-ready mapping."""
        return json.loads(json.dumps(asdict(self)))  # type: ignore[no-any-return]


def compare(reference: Profile, texts: Sequence[str], new: Profile, seed: int = 0) -> Drift:
    """Compares new traffic with the reference.

    A change counts when a permutation test finds it (p < 0.01 after Holm's correction over the
    checks) and it is large enough to matter.

    Args:
        reference: The profile next to the classifier.
        texts: The new texts, of which words are named.
        new: Their profile.
        seed: Of samples and permutations.

    Raises:
        JapagenError: If there are too few texts, or the labels are others.
    """
    for name, side in (("the reference", reference), ("the new traffic", new)):
        if len(side) < _LEAST:
            raise JapagenError(
                f"Expected at least {_LEAST} texts in {name}, found {len(side)}.",
                "Fewer cannot be told from chance: collect more.",
            )
    if reference.labels != new.labels:
        raise JapagenError(
            f"Expected the labels {', '.join(reference.labels)}, found {', '.join(new.labels)}.",
            "Compare with the classifier that the reference belongs to.",
        )
    rng = np.random.default_rng(seed)
    a, b = (side.take(_sample(len(side), rng)) for side in (reference, new))
    # The rows of the first side as it is, and as it might be by chance.
    order = [rng.permutation(len(a) + len(b))[: len(a)] for _ in range(_PERMUTATIONS)]
    order.insert(0, np.arange(len(a)))
    first, second = (side.probabilities.argmax(axis=1) for side in (a, b))
    found = [
        _words(a, b, order),
        _shares("registers", a.registers, b.registers, _REGISTERS, order),
        _lengths(a, b),
        _shares("labels", first, second, a.labels, order),
        _confidence(a, b, order),
    ]
    checks = _adjusted(found)
    drifted = {check.name for check in checks if check.drifted}
    verdict: Verdict = "watch" if drifted else "steady"
    if drifted & set(_OUTPUTS):
        verdict = "retrain"
    return Drift(verdict, checks, _new_words(reference, texts), len(reference), len(new))


def _sample(n: int, rng: np.random.Generator) -> Ints:
    """Rows of a side, as many as tests look at."""
    return np.arange(n) if n <= _MOST else np.sort(rng.choice(n, _MOST, replace=False))


def _words(a: Profile, b: Profile, order: Sequence[Ints]) -> Check:
    rows = sparse.vstack([a.words, b.words], format="csr")
    used = np.flatnonzero(np.asarray(rows.sum(axis=0)).ravel())
    rows = rows[:, used]
    total = np.asarray(rows.sum(axis=0)).ravel()

    # One product for all permutations: a row a permutation, a one for each text on its side.
    ones, ends = np.ones(len(a) * len(order)), np.arange(len(order) + 1) * len(a)
    shape = (len(order), rows.shape[0])
    picked = sparse.csr_array((ones, np.concatenate(order), ends), shape=shape)
    seen, *chance = (
        _jensen_shannon(p, total - p) for p in (row.toarray().ravel() for row in picked @ rows)
    )
    detail = {"divergence": round(seen, 4), "by_chance": round(float(np.mean(chance)), 4)}
    return _beyond_chance("words", seen, chance, detail)


def _beyond_chance(
    name: str, seen: float, chance: Sequence[float], detail: dict[str, Any]
) -> Check:
    value = max(0.0, seen - float(np.mean(chance)))
    return Check(name, value, _p_value(seen, chance), False, detail)


def _jensen_shannon(p: Floats, q: Floats) -> float:
    p, q = p / max(p.sum(), 1), q / max(q.sum(), 1)
    middle = (p + q) / 2
    parts = [np.sum(x[x > 0] * np.log2(x[x > 0] / middle[x > 0])) for x in (p, q)]
    return float(sum(parts) / 2)


def _shares(name: str, a: Ints, b: Ints, names: Sequence[str], order: Sequence[Ints]) -> Check:
    both = np.concatenate([a, b])

    def distance(first: Ints) -> float:
        counts = np.bincount(both[first], minlength=len(names))
        rest = total - counts
        return float(np.abs(counts / counts.sum() - rest / rest.sum()).sum() / 2)

    total = np.bincount(both, minlength=len(names))
    seen, *chance = map(distance, order)
    detail = {
        label: [round(float(np.mean(side == i)), 4) for side in (a, b)]
        for i, label in enumerate(names)
        if total[i]
    }
    return _beyond_chance(name, seen, chance, detail)


def _lengths(a: Profile, b: Profile) -> Check:
    from scipy.stats import ks_2samp

    found = ks_2samp(a.lengths, b.lengths)
    # Mean of the statistic for two samples of one population (of Kolmogorov's distribution).
    by_chance = 0.8687 * np.sqrt((len(a) + len(b)) / (len(a) * len(b)))
    medians = [float(np.median(side.lengths)) for side in (a, b)]
    value = max(0.0, float(found.statistic) - float(by_chance))
    return Check("length", value, float(found.pvalue), False, {"median": medians})


def _confidence(a: Profile, b: Profile, order: Sequence[Ints]) -> Check:
    both = np.concatenate([side.probabilities.max(axis=1) for side in (a, b)])

    def loss(first: Ints) -> float:
        rest = (both.sum() - both[first].sum()) / (len(both) - len(first))
        return float(both[first].mean() - rest)

    seen, *chance = map(loss, order)
    means = [round(float(side.probabilities.max(axis=1).mean()), 4) for side in (a, b)]
    return Check("confidence", max(0.0, seen), _p_value(seen, chance), False, {"mean": means})


def _p_value(seen: float, chance: Sequence[float]) -> float:
    above = sum(value >= seen - 1e-12 for value in chance)
    return (above + 1) / (len(chance) + 1)


def _adjusted(checks: Sequence[Check]) -> tuple[Check, ...]:
    """Holm's step-down correction, and whether each change counts."""
    found = []
    for check in checks:
        smaller = sorted(c.p_value for c in checks if c.p_value <= check.p_value)
        p = min(1.0, max(q * (len(checks) - i) for i, q in enumerate(smaller)))
        drifted = p <= _SIGNIFICANCE and check.value >= _MATTERS[check.name]
        value = round(check.value, 4)
        found.append(replace(check, value=value, p_value=round(p, 4), drifted=drifted))
    return tuple(found)


def _new_words(reference: Profile, texts: Sequence[str]) -> dict[str, int]:
    known = np.asarray(reference.words.sum(axis=0)).ravel()
    counts: Counter[str] = Counter()
    for text in texts:
        words = ((m.orth_base, m.lemma) for m in tokenize(normalize(text)))
        counts.update({shown for shown, lemma in words if not known[_bucket(lemma)]})
    least = max(2, len(texts) / 100)
    return {word: n for word, n in counts.most_common(_FEW_WORDS) if n >= least}


def _lemmas(text: str) -> list[str]:
    return [m.lemma for m in tokenize(normalize(text))]


def _bucket(word: str) -> int:
    return zlib.crc32(word.encode("utf-8", "surrogatepass")) % _BUCKETS
