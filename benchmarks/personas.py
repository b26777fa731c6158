"""Writes configs/everyday/personas_ja.csv: 300 invented people, the same ones each time.

python benchmarks/personas.py configs/everyday/personas_ja.csv

Ages, sexes and prefectures are spread more evenly than in the population, so that everybody who is
rare there is in the file too; the column `weight` takes them back to the census. Occupations,
households, characters and ways of writing are drawn from `personas.yaml`, each among those that go
with what is settled already.
"""

from __future__ import annotations

import csv
import random
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML

WOMAN, MAN = "女性", "男性"
POOLS: dict[str, Any] = YAML(typ="safe").load(Path(__file__).with_suffix(".yaml"))
PREFECTURES: dict[str, float] = POOLS["prefectures"]
Row = dict[str, str | int | float]


class Choice(NamedTuple):
    """An occupation or a trait, whom it fits and where it stands on scales.

    Attributes:
        text: What it says.
        ages: The first and the last.
        skill: The least that it takes online, from 1 to 5.
        sex: Whose it is; everybody's when empty.
        places: Prefectures; all when empty.
        scales: Few words to many, careless to careful, calm to hot; 0 is nowhere.
    """

    text: str
    ages: tuple[int, int]
    skill: int
    sex: str
    places: Sequence[str]
    scales: tuple[int, ...]

    @classmethod
    def read(cls, raw: Mapping[str, Any], text: str) -> Choice:
        """One of the file's entries."""
        places = [p for p in PREFECTURES if p not in raw["without"]] if "without" in raw else ()
        return cls(
            text,
            tuple(raw.get("ages", (16, 89))),
            raw.get("skill", 1),
            raw.get("sex", ""),
            raw.get("places", places),
            tuple(raw.get(name, 0) for name in ("words", "care", "heat")),
        )

    def fits(self, age: int, sex: str, place: str) -> bool:
        """Whether somebody may have it."""
        there = not self.places or place in self.places
        return self.ages[0] <= age <= self.ages[1] and self.sex in ("", sex) and there

    def clashes(self, other: Choice) -> bool:
        """Whether the two stand on opposite ends of a scale."""
        return any(a * b < 0 for a, b in zip(self.scales, other.scales, strict=True))


OCCUPATIONS = {
    kind: [Choice.read(raw, name) for raw in groups for name in raw["names"]]
    for kind, groups in POOLS["occupations"].items()
}
TRAITS = {
    kind: [Choice.read(raw, raw["text"]) for raw in POOLS[kind]]
    for kind in ("characters", "skills", "writing")
}


def _of_age(rows: Iterable[Mapping[str, Any]], age: int) -> list[Mapping[str, Any]]:
    return [row for row in rows if row["ages"][0] <= age <= row["ages"][1]]


class Writer:
    """Draws people; what was used least often so far comes first."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._used: Counter[str] = Counter()

    def _pick(self, texts: Sequence[str]) -> str:
        least = min(self._used[text] for text in texts)
        found = self._random.choice([text for text in texts if self._used[text] == least])
        self._used[found] += 1
        return found

    def _choose(self, choices: Iterable[Choice]) -> Choice:
        named = {choice.text: choice for choice in choices}
        return named[self._pick(list(named))]

    def _kind(self, age: int, sex: str) -> str:
        """What people of this age do, as a kind of occupation."""
        if age < 20:
            kinds = [["pupil"], ["pupil", "student", "first_job"]][age == 18]
            return self._random.choice(["student", "student", "first_job"] if age == 19 else kinds)
        if self._random.random() < _of_age(POOLS["in_work"], age)[0][sex]:
            late = age >= 60 and self._random.random() < 0.5
            part = sex == WOMAN and age >= 30 and self._random.random() < 0.4
            return "part_time" if late or part else "work"
        if age < 25 or age >= 66:
            return "student" if age < 25 else "retired"
        return "home" if self._random.random() < (0.6 if sex == WOMAN else 0.1) else "between"

    def _occupation(self, age: int, sex: str, place: str) -> tuple[str, Choice]:
        kind = self._kind(age, sex)
        found = [choice for choice in OCCUPATIONS[kind] if choice.fits(age, sex, place)]
        return (kind, self._choose(found)) if found else self._occupation(age, sex, place)

    def _household(self, age: int, sex: str, kind: str, work: str) -> str:
        texts = [text for row in _of_age(POOLS["households"], age) for text in row["texts"]]
        if kind == "student" and work != "浪人中の受験生":
            texts = POOLS["student_households"]
        elif kind == "first_job":
            texts = POOLS["first_job_households"]
        elif kind == "home":
            texts = [t for t in texts if t.startswith("{mate}と")] or ["{mate}と二人暮らし"]
        elif work.startswith("育児休業中"):
            texts = ["{mate}と乳児の三人暮らし", "{mate}と乳児と保育園児の四人暮らし"]
        elif work.startswith("親の介護"):
            texts = ["高齢の母と二人暮らし", "{mate}と高齢の父の三人暮らし"]
        elif work.endswith("息子に譲った）"):
            texts = ["長男の家族と同居"]
        return self._pick(texts).format(mate="妻" if sex == MAN else "夫")

    def person(self, number: int, age: int, sex: str, place: str) -> Row:
        """A row of the file, without its weight."""
        kind, work = self._occupation(age, sex, place)
        skilled = 5 if work.text in POOLS["professionals"] else 4 if work.skill >= 3 else 0
        most = skilled or (3 if age < 60 else 2)
        least = min(max(work.skill, 3 if age < 30 else 1), most)
        fitting = {
            name: [choice for choice in choices if choice.fits(age, sex, place)]
            for name, choices in TRAITS.items()
        }
        skill = self._choose(c for c in fitting["skills"] if least <= c.skill <= most)
        character = self._choose(c for c in fitting["characters"] if c.skill <= skill.skill)
        writing = self._choose(
            c for c in fitting["writing"] if c.skill <= skill.skill and not c.clashes(character)
        )
        return {
            "id": f"p{number:03}",
            "age": age,
            "gender": sex,
            "prefecture": place,
            "occupation": work.text,
            "household": self._household(age, sex, kind, work.text),
            "character": character.text,
            "digital_skill": skill.text,
            "writing": writing.text,
        }


def _places(number: int, rng: random.Random) -> list[str]:
    """Prefectures of the rows: three each, and the others by population."""
    names = [name for name in PREFECTURES for _ in range(3)]
    more = rng.choices(list(PREFECTURES), list(PREFECTURES.values()), k=number - len(names))
    return rng.sample([*names, *more], number)


def _raked(rows: Sequence[Row]) -> list[float]:
    """Weights with which ages by sex, and prefectures, are as frequent as in the census."""
    groups = {
        f"{band['ages'][0]}/{sex}": band[sex] for band in POOLS["ages"] for sex in (WOMAN, MAN)
    }
    ages = [f"{_of_age(POOLS['ages'], int(r['age']))[0]['ages'][0]}/{r['gender']}" for r in rows]
    places = [str(row["prefecture"]) for row in rows]
    weights = [1.0] * len(rows)
    for _ in range(50):
        for keys, wanted in ((ages, groups), (places, PREFECTURES)):
            sums = dict.fromkeys(wanted, 0.0)
            for key, weight in zip(keys, weights, strict=True):
                sums[key] += weight
            scale = len(rows) / sum(wanted.values())
            pairs = zip(keys, weights, strict=True)
            weights = [weight * scale * wanted[key] / sums[key] for key, weight in pairs]
    return weights


def personas(seed: int = 0) -> list[Row]:
    """All rows of the file."""
    rng, writer = random.Random(seed), Writer(seed)
    people = []
    for band in POOLS["ages"]:
        for _ in range(band["rows"]):
            sex = rng.choices((WOMAN, MAN), (band[WOMAN], band[MAN]))[0]
            people.append((rng.randint(*band["ages"]), sex))
    rng.shuffle(people)
    places = _places(len(people), rng)
    rows = [
        writer.person(number, age, sex, place)
        for number, ((age, sex), place) in enumerate(zip(people, places, strict=True), start=1)
    ]
    return [{**row, "weight": round(w, 2)} for row, w in zip(rows, _raked(rows), strict=True)]


if __name__ == "__main__":
    found = personas()
    with Path(sys.argv[1]).open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, list(found[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(found)
