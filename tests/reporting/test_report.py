from __future__ import annotations

import base64
import copy
import hashlib
import re
import warnings
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import pytest

import japagen
from japagen.data.dataset import Dataset, Example, Rejection
from japagen.data.summary import RunSummary
from japagen.i18n import Language
from japagen.reporting.cards import dataset_card
from japagen.reporting.report import render_report
from japagen.reporting.text import LANGUAGES, Words, strings
from tests.report_sample import LABELS, from_file, sample_run

Run = tuple[dict[str, Any], Dataset]


def _render(metrics: dict[str, Any], dataset: Dataset, language: Language = "ja") -> str:
    return render_report(
        RunSummary.model_validate(metrics), dataset, language=language, switch=False
    )


_VOID = {"meta", "br", "link", "img", "input", "hr"}
_HOSTILE = (
    "<script>alert(1)</script>",
    "</td></table><img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)',
    "{{ 7 * 7 }}",
    "</style><style>*{display:none}</style>",
)
_TURNED = "\u202eけいご\u2066"


class _Page(HTMLParser):
    """Checks nesting while it collects elements, attributes and the text of the page."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.isolated: dict[str, bool] = {}
        self.feed(html)
        self.close()
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"repeated attribute in <{tag}>: {attrs}"
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1] == tag, f"</{tag}> closes <{self.open[-1]}> at {self.getpos()}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("style", "script"):
            self.text.append(data)
        if _TURNED[0] in data:
            self.isolated[data] = "bdi" in self.open

    @property
    def all_text(self) -> str:
        return "\n".join(self.text)

    def having(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def run() -> Run:
    return sample_run()


@pytest.fixture(scope="module", params=LANGUAGES)
def page(run: Run, request: pytest.FixtureRequest) -> tuple[Words, str, _Page]:
    html = _render(*run, language=request.param)
    return Words(request.param), html, _Page(html)


def test_nothing_is_loaded_from_anywhere(page: tuple[Words, str, _Page]) -> None:
    _, html, parsed = page
    policies = [
        a["content"]
        for a in parsed.having("meta")
        if a.get("http-equiv") == "Content-Security-Policy"
    ]
    # The one script that may run is the page's own.
    own = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    assert len(own) == 1
    allowed = base64.b64encode(hashlib.sha256(own[0].encode()).digest()).decode()
    assert policies == [
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{allowed}'"
    ]
    loading = {"link", "iframe", "object", "embed", "base", "img", "form"}
    assert not loading & {tag for tag, _ in parsed.elements}
    for tag, attributes in parsed.elements:
        for name, value in attributes.items():
            assert not name.startswith("on"), f"<{tag} {name}>"
            if name in ("src", "srcset", "href", "xlink:href", "action", "data", "poster"):
                assert (value or "").startswith("#"), f"<{tag} {name}={value}>"
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", html))
    assert "@import" not in html


def test_every_reference_has_its_own_target(page: tuple[Words, str, _Page]) -> None:
    _, html, parsed = page
    ids = [a["id"] for _, a in parsed.elements if "id" in a]
    assert len(ids) == len(set(ids))
    links = [a["href"] for a in parsed.having("a")]
    wanted = {str(link)[1:] for link in links} | set(re.findall(r"url\(#([^)]*)\)", html))
    wanted |= {str(a["aria-labelledby"]) for _, a in parsed.elements if "aria-labelledby" in a}
    assert wanted <= set(ids)


def _figures(metrics: dict[str, Any], words: Words) -> list[str]:
    """Every figure that a reader of the report must find, as it is written."""
    scores, counts, alignment = metrics["scores"], metrics["counts"], metrics["alignment"]
    diagnostics = alignment["diagnostics"]
    found = [words.count(n) for n in (*counts.values(), *metrics["rejections"].values())]
    found += [words.signed(scores["gain"][k]) for k in ("value", "low", "high")]
    for arm in (scores["gold_only"], scores["with_synthetic"]):
        found += [words.number(arm[k]) for k in ("macro_f1", "macro_f1_sd", "accuracy", "ece")]
        found += [words.number(s[k]) for s in arm["seeds"] for k in ("macro_f1", "accuracy")]
        found += [
            words.number(row[k])
            for row in arm["per_label"].values()
            for k in ("precision", "recall", "f1")
        ]
        found += [words.count(row["support"]) for row in arm["per_label"].values()]
        found += [words.count(n) for row in arm["confusion"] for n in row]
    for row in scores["baselines"]:
        if row["reason"] is None:
            found += [words.number(row[k]) for k in ("macro_f1", "accuracy", "matthews")]
            found += [words.signed(row["gain"][k]) for k in ("value", "low", "high")]
        else:
            found.append(words(f"baselines.without.{row['reason']}"))
    for row in metrics["per_label"].values():
        found += [words.count(row[k]) for k in ("gold", "generated", "kept")]
        found += [words.share(row[k]) for k in ("label_trust", "weight_share")]
    registers = metrics["registers"]
    found += [words.share(v) for v in registers["gold"].values()]
    for side in (registers, *registers["per_label"].values()):
        found += [words.share(v) for s in ("asked", "before", "seen") for v in side[s].values()]
    found += [words.share(registers[f"match{when}"]) for when in ("", "_before")]
    found += [words.number(registers[f"distance{when}"]) for when in ("", "_before")]
    found += [words.share(v) for v in alignment["prior"]["probabilities"].values()]
    for name in ("label_distance", "two_sample_auc"):
        found += [words.number(diagnostics[name][when]) for when in ("before", "after")]
    diversity = metrics["diversity"]
    measured = [
        measure
        for part in ("against_gold", "rounds")
        for group in diversity[part]["groups"].values()
        for measure in group["measures"].values()
    ]
    measured += [
        diagnostics[name][when]
        for name in ("word_divergence", "pos_divergence", "mean_discrepancy")
        for when in ("before", "after")
    ]
    for measure in measured:
        value, low, high = (words.number(measure[k]) for k in ("value", "low", "high"))
        found.append(f"{value} [{low}, {high}]")
    size = diagnostics["effective_sample_size"]
    found += [words.count(size["rows"]), words.share(size["share"])]
    found += [words.share(v) for v in size["per_label"].values()]
    found.append(words.number(diagnostics["tolerance"]))
    found += [words.number(v) for v in diagnostics["tempered"].values()]
    for shift in diagnostics["overused"] + diagnostics["underused"]:
        found += [shift["word"], f"{shift['target_per_1000']:.2f}"]
        found += [f"{shift['synthetic_per_1000']:.2f}"]
        found += [words.signed(shift[f"log_ratio_{when}"]) for when in ("before", "after")]
    leakage = metrics["leakage"]
    found += [words.share(leakage["mean_overlap"]), words.share(leakage["max_overlap"])]
    found += list(leakage["worst"].values())
    found += [text for e in metrics["errors"] for text in (e["text"], f"{e['probability']:.3f}")]
    measured = ("_seconds", "_per_kept")
    found += [f"{v:,.1f}" for k, v in metrics["cost"].items() if k.endswith(measured)]
    found += [words.count(v) for k, v in metrics["cost"].items() if not k.endswith(measured)]
    found += [f"{v:,.1f}" for v in metrics["seconds"].values()]
    found += [*metrics["versions"], *metrics["versions"].values()]
    generator = metrics["generator"]
    found += [generator["name"], generator["identity"], generator["terms"]["summary"]]
    found += [generator["terms"]["url"], metrics["dictionary"], metrics["encoder"]]
    found += [metrics["task"]["name"], metrics["task"]["description"], str(metrics["task"]["seed"])]
    return [*found, *LABELS, *LABELS.values(), metrics["japagen"]]


def _renumbered(value: Any, key: str, numbers: Iterator[int]) -> Any:
    """Gives every figure a value of its own, so that none can stand in for another."""
    if isinstance(value, dict):
        return {k: _renumbered(v, k if k in _ROUNDED else key, numbers) for k, v in value.items()}
    if isinstance(value, list):
        return [_renumbered(v, key, numbers) for v in value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    number = next(numbers)
    if key == "seed":
        return value
    if key in ("seconds", "request_seconds", "wall_seconds", *_PER_1000):
        return 20_000 + number + 0.25
    return 10_000 + number if isinstance(value, int) or key == "rows" else number / 1000


_PER_1000 = ("target_per_1000", "synthetic_per_1000")
_ROUNDED = ("seconds", "request_seconds", "wall_seconds", "rows", "seed", *_PER_1000)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_figure_is_shown(run: Run, language: Language) -> None:
    metrics = _renumbered(run[0], "", count(101))
    words = Words(language)
    text = _Page(_render(metrics, run[1], language=language)).all_text
    figures = _figures(metrics, words)
    assert len(figures) > 200
    missing = [f for f in figures if not re.search(rf"(?<![\d.,]){re.escape(f)}(?![\d%])", text)]
    assert missing == []


def test_confusion_matrix_stands_in_the_order_of_its_labels(
    run: Run, page: tuple[Words, str, _Page]
) -> None:
    words, html, _ = page
    caption = (
        f"{words('confusion')}: {words('model.with_synthetic', added=words('added.synthetic'))}"
    )
    table = html[html.index(f"{caption}</caption>") :]
    cells = re.findall(r'--depth:([\d.]+)">([\d,]+)<', table[: table.index("</table>")])
    expected = run[0]["scores"]["with_synthetic"]["confusion"]
    assert [int(n) for _, n in cells] == [n for row in expected for n in row]
    assert float(cells[0][0]) == pytest.approx(expected[0][0] / sum(expected[0]), abs=1e-3)


def test_tables_and_charts_speak_to_screen_readers(page: tuple[Words, str, _Page]) -> None:
    words, html, parsed = page
    tables = parsed.having("table")
    assert len(tables) > 15
    assert html.count("<caption") == len(tables)
    assert all(a.get("scope") in ("row", "col") for a in parsed.having("th"))
    charts = parsed.having("svg")
    assert len(charts) == 14
    assert all(a["role"] == "img" and a["aria-label"] for a in charts)
    assert [a["lang"] for a in parsed.having("html")] == ["ja" if words("yes") == "可" else "en"]
    levels = [int(tag[1]) for tag, _ in parsed.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_svg_text_stays_text(page: tuple[Words, str, _Page]) -> None:
    _, html, _ = page
    charts = re.findall(r"<svg.*?</svg>", html, re.DOTALL)
    drawn = "".join(charts)
    assert all(f">{label}</text>" in drawn for label in LABELS)
    assert "font-family" not in drawn
    # Colours are the style sheet's, so that dark mode and print have their own.
    assert not re.search(r'(fill|stroke)="(#|rgb|black|white)', drawn)


def test_rendering_twice_gives_the_same_page(run: Run) -> None:
    assert _render(*run) == _render(*run)


def test_rendering_warns_of_nothing(run: Run) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _render(*run)


@pytest.mark.parametrize("hostile", [*_HOSTILE, _TURNED])
def test_hostile_text_does_nothing(run: Run, hostile: str) -> None:
    metrics, dataset = copy.deepcopy(run[0]), run[1]
    clean = _Page(_render(metrics, dataset))
    renamed = dict(zip(LABELS, (hostile, *list(LABELS)[1:]), strict=True))

    def poison(value: Any) -> Any:
        if isinstance(value, dict):
            return {renamed.get(k, k): poison(v) for k, v in value.items()}
        if isinstance(value, list):
            return [poison(v) for v in value]
        return renamed.get(value, value) if isinstance(value, str) else value

    metrics = poison(metrics)
    metrics["task"]["name"] = metrics["task"]["description"] = hostile
    metrics["generator"]["name"] = metrics["generator"]["terms"]["summary"] = hostile
    metrics["generator"]["terms"]["url"] = "javascript:alert(1)"
    metrics["leakage"]["worst"] = {"text": hostile, "test_text": hostile}
    metrics["alignment"]["diagnostics"]["overused"][0]["word"] = hostile
    for error in metrics["errors"]:
        error["text"] = hostile
    poisoned = Dataset.of(
        replace(
            e,
            text=hostile,
            label=renamed[str(e.label)],
            rejected=e.rejected and replace(e.rejected, detail=e.rejected.detail and hostile),
        )
        for e in dataset
    )
    html = _render(metrics, poisoned)
    parsed = _Page(html)
    assert [tag for tag, _ in parsed.elements] == [tag for tag, _ in clean.elements]
    assert not any(name.startswith("on") for _, a in parsed.elements for name in a)
    assert hostile in parsed.all_text
    if hostile == _TURNED:
        assert parsed.isolated
        assert all(parsed.isolated.values())
        # The value of an option is compared, and never shown.
        values = [v for _, a in parsed.elements for n, v in a.items() if v and n != "value"]
        assert not any(_TURNED[0] in v for v in values)


@pytest.mark.parametrize(
    ("verdict", "low", "high"),
    [("better", 0.01, 0.09), ("worse", -0.09, -0.01), ("no_clear_difference", -0.01, 0.05)],
)
def test_verdict_is_said_in_words(run: Run, verdict: str, low: float, high: float) -> None:
    metrics = copy.deepcopy(run[0])
    metrics["scores"] |= {
        "verdict": verdict,
        "gain": {"value": (low + high) / 2, "low": low, "high": high},
    }
    for language in LANGUAGES:
        words = Words(language)
        text = _Page(_render(metrics, run[1], language=language)).all_text
        added = words("added.synthetic")
        heading = words(f"verdict.{verdict}", added=added)
        assert heading in text
        others = {"better", "worse", "no_clear_difference", "not_measured"} - {verdict}
        assert not any(words(f"verdict.{other}", added=added) in text for other in others)
        assert words("verdict.covers", n=words.count(metrics["scores"]["n"])) in text
        assert words.signed(low) in text


_OPTIONAL = ("generator", "registers", "alignment", "mix", "scores", "leakage", "cost")


@pytest.mark.parametrize("part", [*_OPTIONAL, "everything"])
@pytest.mark.parametrize("absent", [False, True])
def test_missing_parts_say_so(run: Run, part: str, absent: bool) -> None:
    metrics = copy.deepcopy(run[0])
    for name in _OPTIONAL if part == "everything" else (part,):
        if absent:
            del metrics[name]
        else:
            metrics[name] = None
    for language in LANGUAGES:
        words = Words(language)
        text = _Page(_render(metrics, run[1], language=language)).all_text
        if part == "generator":
            assert words("terms.file") in text
        else:
            assert words("not_measured") in text
        if part in ("scores", "everything"):
            assert words("verdict.not_measured", added=words("added.synthetic")) in text


def test_nothing_missing_is_said_to_be_measured_or_not(page: tuple[Words, str, _Page]) -> None:
    words, _, parsed = page
    assert words("not_measured") not in parsed.all_text


def test_scores_without_gold_only(run: Run) -> None:
    metrics = copy.deepcopy(run[0])
    metrics["scores"] |= {"gold_only": None, "gain": None, "verdict": "not_measured"}
    words = Words("en")
    text = _Page(_render(metrics, run[1], language="en")).all_text
    assert words("verdict.not_measured", added=words("added.synthetic")) in text
    assert words.number(metrics["scores"]["with_synthetic"]["macro_f1"]) in text
    assert words("not_measured") in text


def test_parts_of_alignment_may_be_missing(run: Run) -> None:
    metrics = copy.deepcopy(run[0])
    metrics["alignment"]["prior"]["probabilities"] = None
    diagnostics = metrics["alignment"]["diagnostics"]
    diagnostics |= {
        "label_distance": {"before": None, "after": None},
        "word_divergence": None,
        "tolerance": None,
        "overused": [],
        "underused": [],
        "notes": ["Synthetic text was not weighted."],
    }
    text = _Page(_render(metrics, run[1], language="en")).all_text
    assert "Synthetic text was not weighted." in text
    assert Words("en")("labels.target") not in text
    assert Words("en")("not_measured") in text


def test_an_alarm_is_said_in_words(run: Run) -> None:
    metrics = copy.deepcopy(run[0])
    page = _Page(_render(metrics, run[1], language="en")).all_text
    assert Words("en")("diversity.steady") in page
    alarm = {"measure": "distinct_2", "change": -0.31, "low": -0.4, "high": -0.22}
    metrics["diversity"]["alarms"] = [
        {"kind": "round", "group": "1", **alarm},
        {"kind": "gold", "group": "synthetic", **alarm},
    ]
    page = _Page(_render(metrics, run[1], language="en")).all_text
    words = Words("en")
    for said in ("diversity.collapse", "diversity.narrow"):
        assert words(said) in page
    figures = "round 2 is 31% less varied than the first (95% interval 22% to 40%)"
    assert f"By {words('diversity.distinct_2')}, {figures}" in page
    page = _Page(_render(metrics, run[1])).all_text
    assert "で見た多様性が 31% 低い" in page


def test_diversity_without_gold_or_rounds_stands_alone(run: Run) -> None:
    metrics = copy.deepcopy(run[0])
    found = metrics["diversity"]
    del found["against_gold"]["groups"]["gold"]
    found["rounds"] = None
    page = _Page(_render(metrics, run[1], language="en")).all_text
    assert Words("en")("diversity.alone") in page
    assert Words("en")("diversity.chart.gold") not in page


def test_the_report_and_the_card_say_why_a_label_was_not_asked_again(run: Run) -> None:
    metrics = copy.deepcopy(run[0])
    row = {"asked": 141, "kept": 63, "reason": "yield"}
    metrics["until"] = {"wanted": 100, "rounds": 3, "labels": {"配送": row}}
    page = _Page(_render(metrics, run[1])).all_text
    assert "直近の文章がほとんど採用されませんでした。" in page
    card = dataset_card(RunSummary.model_validate(metrics), run[1], "en")
    assert "| 配送 | 141 | 63 | Too few of the last texts were kept. |" in card


def test_reasons_are_in_the_language_of_the_report(run: Run) -> None:
    page = _Page(_render(run[0], run[1])).all_text
    assert "正解データ 64 件のラベルの割合を使いました" in page
    assert "Estimated on" not in page


def test_no_weights_are_claimed_where_there_are_none(run: Run) -> None:
    metrics = copy.deepcopy(run[0])
    words = Words("ja")
    assert words("alignment.note") in _Page(_render(metrics, run[1])).all_text
    metrics["alignment"]["method"] = "none"
    text = _Page(_render(metrics, run[1])).all_text
    assert words("alignment.note") not in text
    assert words("method.none") in text


def test_a_file_in_place_of_generation(run: Run) -> None:
    metrics = copy.deepcopy(run[0])
    metrics |= {"generator": None, "sources": from_file("他社LLM.csv"), "cost": None}
    metrics["counts"] |= {"requested": 0}
    text = _Page(_render(metrics, run[1])).all_text
    assert "他社LLM.csv" in text
    assert Words("ja")("terms.file") in text
    assert Words("ja")("counts.requested") not in re.findall("[^\n]+", text)[:60]


@pytest.mark.parametrize("language", LANGUAGES)
def test_sources_stand_side_by_side(run: Run, language: Language) -> None:
    words, metrics = Words(language), copy.deepcopy(run[0])
    assert words("sources") not in _render(metrics, run[1], language=language)
    ours = metrics["sources"]
    metrics["sources"] = [*from_file("<他社LLM>.csv"), *ours]
    html = _render(metrics, run[1], language=language)
    page = _Page(html)
    assert "<他社LLM>.csv" in page.all_text
    assert "&lt;他社LLM&gt;.csv" in html
    (source,) = ours
    assert source["kept"] == metrics["counts"]["kept"]
    beyond = words("sources.open")
    worth = f"3.2 [−0.4, {beyond}]"
    share = words.share(150 / 165)
    for shown in ("他社", "generator", f"150 ({share})", "0.610 [0.580, 0.640]", "1,250", worth):
        assert shown in page.text, shown
    assert words("mix.reliable") in page.text
    assert words("filter.duplicate") in page.text


def test_an_empty_dataset(run: Run) -> None:
    metrics = copy.deepcopy(run[0])
    metrics["counts"] |= {"generated": 0, "kept": 0, "rejected": 0}
    metrics["rejections"] = {}
    text = _Page(_render(metrics, Dataset.of([]), language="en")).all_text
    assert Words("en")("samples.none") in text
    assert Words("en")("rejections.none") in text


def test_samples_are_seeded_limited_and_kept(run: Run) -> None:
    metrics, dataset = run

    def sampled(seed: int) -> set[str]:
        html = _render({**metrics, "task": {**metrics["task"], "seed": seed}}, dataset)
        part = html[html.index('id="samples"') : html.index('id="registers"')]
        return set(re.findall(r'<bdi class="quoted" lang="ja">(.*?)</bdi>', part))

    first = sampled(1)
    assert first == sampled(1)
    assert first != sampled(2)
    assert len(first) == 5 * len(LABELS)
    assert first <= set(dataset.kept.texts)


def test_pairs_and_failed_requests(run: Run) -> None:
    metrics = copy.deepcopy(run[0])
    metrics["rejections"] = {"failed": 1, "home_made_filter": 1}
    dataset = Dataset.of(
        [
            Example("前文です。", "配送", text_pair="後文です。"),
            Example("", "配送", rejected=Rejection("failed", 1, 0, "HTTP 503")),
            Example("別の文。", "配送", rejected=Rejection("home_made_filter", 0.25, 0.5)),
        ]
    )
    text = _Page(_render(metrics, dataset, language="en")).all_text
    for shown in ("後文です。", "HTTP 503", "home_made_filter", "0.25", Words("en")("no_text")):
        assert shown in text


def test_long_labels_are_cut_in_charts_only(run: Run) -> None:
    metrics = copy.deepcopy(run[0])
    long = "とても長いラベルの名前" * 6
    first = next(iter(metrics["per_label"]))
    metrics["per_label"] = {long: metrics["per_label"][first]}
    html = _render(metrics, run[1])
    assert f"<bdi>{long}</bdi>" in html
    assert f">{long}</text>" not in html
    assert ">とても長い" in html


def test_every_string_has_a_key_that_yaml_reads_as_text() -> None:
    for key, text in strings("en").items():
        assert isinstance(key, str), f"YAML reads {key!r} as something else"
        assert text.strip(), key


def test_every_filter_has_a_name() -> None:
    names: set[str] = set()
    for path in Path(japagen.__file__).parent.rglob("*.py"):
        names |= set(re.findall(r'Rejection\(\s*"(\w+)"', path.read_text(encoding="utf-8")))
    assert len(names) > 8
    assert {f"filter.{name}" for name in names} <= set(strings("ja"))
