from __future__ import annotations

import base64
import gzip
import json
import shutil
from html import escape
from pathlib import Path
from typing import Any

import jsonschema
import pandas as pd
import pytest

import japagen as jg
from japagen.config.curation import CODE_VARIABLE
from japagen.config.task import Task
from japagen.config.task_data import load_data
from japagen.data.files import read_json, to_yaml
from japagen.data.formats import read_examples
from japagen.errors import JapagenError
from japagen.evaluation.drift import Profile
from japagen.llm.backend import Answer, Request
from japagen.pipeline.comparison import provenance_of
from japagen.reporting.report import verdict_texts
from japagen.training import encoder, trainer
from japagen.training.encoder import load_encoder
from tests.conftest import GOLD, Heard, small_task, write_gold, write_jsonl
from tests.scripted import ScriptedGenerator, write_text

_ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def task(tiny_encoder: str, tmp_path_factory: pytest.TempPathFactory) -> Task:
    raw = small_task(write_gold(tmp_path_factory.mktemp("task") / "gold.jsonl"))
    raw["training"] = {
        "encoder": tiny_encoder,
        "min_steps": 2,
        "max_steps": 3,
        "synthetic_share": 0.4,
    }
    return Task.parse(raw)


@pytest.fixture(scope="module")
def whole(task: Task, tmp_path_factory: pytest.TempPathFactory) -> jg.Run:
    """An undisturbed run of the task."""
    return _run(task, tmp_path_factory.mktemp("whole") / "run")[0]


@pytest.fixture
def finished(whole: jg.Run, tmp_path: Path) -> Path:
    """The directory of a run of the task, for a test to go on from."""
    return shutil.copytree(whole.path, tmp_path / "run")


def _changed(task: Task, section: str, **values: Any) -> Task:
    part = getattr(task, section).model_copy(update=values)
    return task.model_copy(update={section: part})


def _run(task: Task, out: Path, **how: Any) -> tuple[jg.Run, Heard, ScriptedGenerator]:
    heard = Heard()
    generator = how.pop("generator", None) or ScriptedGenerator()
    return jg.run(task, out, generator=generator, listener=heard, **how), heard, generator


def test_a_task_of_code_runs_and_goes_on_from_its_directory(
    task: Task, raw_task: dict[str, Any], tmp_path: Path
) -> None:
    """Nothing lies in files but what the run writes."""
    frame = pd.DataFrame([(t, v) for v, texts in GOLD.items() for t in texts])
    frame.columns = pd.Index(["本文", "分類"])
    written = {
        "gpt": frame.assign(本文=frame["本文"] + "ご確認ください。"),
        "own": [("返品、", "返品")],
    }
    given = {**raw_task, "gold": frame, "training": task.training}
    out = tmp_path / "run"
    run, heard, _ = _run(jg.Task(**given), out, synthetic=written, until="align")
    assert "align" in heard.ran()
    assert set(run.latest.column("source")) == {"gpt", "own"}
    _, heard, _ = _run(jg.Task(**given), out, synthetic=written, until="align")
    assert not heard.ran()
    moved = run.task
    assert moved.gold is not None
    assert moved.gold.path == out / "given" / "gold.parquet"
    assert load_data(moved).gold is not None
    _, heard, _ = _run(moved, out, until="align")
    assert not heard.ran()


def test_a_run_goes_on_where_its_folder_was_moved(
    raw_task: dict[str, Any], tiny_encoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the task that the run keeps: data, the encoder and code move along."""
    monkeypatch.setenv(CODE_VARIABLE, "1")
    project = tmp_path / "project"
    shutil.copytree(tiny_encoder, project / "encoder")
    shutil.move(raw_task["gold"]["path"], project)
    check = "def short(texts):\n    return [None if len(t) < 99 else 'long' for t in texts]\n"
    (project / "checks.py").write_text(check, encoding="utf-8")
    raw_task |= {
        "gold": "gold.jsonl",
        "training": {"encoder": "encoder", "min_steps": 1, "max_steps": 1, "synthetic_share": 0.4},
    }
    raw_task["curation"]["validators"] = {"house": {"function": "checks:short"}}
    (project / "task.yaml").write_text(to_yaml(raw_task), encoding="utf-8")
    _, heard, _ = _run(Task.load(project / "task.yaml"), project / "runs" / "small")
    assert {"curate", "train-synthetic-0", "report"} <= heard.ran()
    moved = shutil.move(project, tmp_path / "elsewhere") / "runs" / "small"
    (moved.parents[1] / "checks.py").unlink()
    task = Task.load(moved / "task.yaml")
    assert str(tmp_path) not in (moved / "task.yaml").read_text(encoding="utf-8")
    _, heard, generator = _run(task, moved)
    # Its page names the folder.
    assert (heard.ran() - {"report"}, generator.asked) == (set(), [])
    run, heard, generator = _run(_changed(task, "curation", min_characters=28), moved)
    assert "curate" in heard.ran()
    assert _asked(generator) == []  # rewriting others may ask
    assert run.dataset.rejection_counts["too_short"] > 0


def _check_what_notebooks_show(run: jg.Run) -> None:
    verdict = verdict_texts(run.summary, "en")
    assert repr(run) == f"<Run {run.path}: {verdict[0]}>"
    shown = run._repr_html_()
    assert all(escape(text) in shown for text in verdict)
    assert run.report() == run.path / "report.html"
    assert str(run.path) in shown
    assert "macro_f1 0." in shown or "macro_f1 1." in shown
    assert list(run.to_pandas()["id"]) == run.dataset.column("id")


def _asked(generator: ScriptedGenerator, purpose: str = "few_shot") -> list[Request]:
    return [r for r in generator.asked if r.template.startswith(purpose)]


def _check_what_the_page_carries(html: str, run: jg.Run) -> None:
    """Every text with its prompt, and a place on the map for the kept ones."""
    packed = html.split('id="records">')[1].split("<")[0]
    records = json.loads(gzip.decompress(base64.b64decode(packed)))
    assert records["columns"]["id"] == run.dataset.column("id")
    prompts = {request["prompt"] for request in records["requests"]}
    assert prompts <= {row["prompt"] for row in provenance_of(run).requests.values()}
    assert all(place >= 0 for place in records["columns"]["request"])
    placed = [point["id"] for point in run.metrics["map"]["synthetic"]]
    assert placed == run.dataset.kept.column("id")


def test_a_run_leaves_everything_a_user_needs(task: Task, tmp_path: Path) -> None:
    run, heard, generator = _run(_changed(task, "evaluation", baselines=True), tmp_path / "run")
    metrics = run.metrics
    counts = metrics["counts"]
    assert counts["requested"] == len(_asked(generator)) == 24
    assert counts["kept"] + counts["rejected"] + counts["failed"] == 24 + counts["rewritten"]
    assert len(run.dataset) == 24 + counts["rewritten"]
    assert run.dataset.weights[run.dataset.kept_mask].mean() == pytest.approx(1)
    scores = metrics["scores"]
    assert 0 <= scores["with_synthetic"]["macro_f1"] <= 1
    _check_what_notebooks_show(run)
    assert scores["gain"]["low"] <= scores["gain"]["value"] <= scores["gain"]["high"]
    predicted = run.classifier.predict(["荷物はどこですか。"])[0]
    assert predicted.label in task.labels
    assert sum(predicted.probabilities.values()) == pytest.approx(1)
    html = (run.path / "report.html").read_text(encoding="utf-8")
    assert "http-equiv" in html
    jsonschema.validate(metrics, read_json(_ROOT / "docs" / "metrics.schema.json"))
    _check_what_the_page_carries(html, run)
    assert read_examples(run.path / "examples.jsonl").texts == run.dataset.texts
    assert {"generate", "curate", "registers", "trust", "align"} <= heard.ran()
    assert {"train-gold-0", "train-synthetic-0", "reference"} <= heard.ran()
    test = load_data(task).test
    assert test is not None
    assert len(Profile.load(run.path / "model")) == len(test)
    assert "pipeline_tag: text-classification" in (run.path / "model" / "README.md").read_text()
    assert metrics["economics"]["query"]["classifier"]["seconds"] > 0
    assert metrics["economics"]["labelling"] == {"state": "not_measured"}
    # Each label is as sure as the labelers and the writer make it.
    sure = run.dataset.kept.column("weight_label")
    assert all(task.curation.label_confidence <= weight <= 1 for weight in sure)
    assert any(note.startswith("Labelers (encoder ") for note in heard.notes)
    (mixed,) = metrics["mix"]["sources"].values()
    evidence = mixed["reliability"]["evidence"]
    agreed = f"the labelers agree with {evidence['agreed']} of {evidence['texts']}."
    assert any(agreed in note for note in heard.notes)
    assert heard.kept() == set()


def test_a_second_run_keeps_everything_and_asks_nothing(task: Task, finished: Path) -> None:
    before = (finished / "metrics.json").read_bytes()
    second, heard, generator = _run(task, finished)
    assert generator.asked == []
    assert heard.ran() == set()
    assert (second.path / "metrics.json").read_bytes() == before


def test_a_changed_key_runs_what_it_touches_and_says_so(task: Task, finished: Path) -> None:
    _, heard, generator = _run(_changed(task, "training", tune="always"), finished)
    assert generator.asked == []
    assert {"generate", "curate", "registers", "trust", "align"} <= heard.kept()
    trained = {"train-gold-0", "train-synthetic-0"}
    assert heard.ran() == {*trained, "reference", "nearest", "report"}
    assert ("train-gold-0", "start", "changed: training") in heard.stages
    _, heard, generator = _run(_changed(task, "generation", per_label=16), finished)
    assert len(_asked(generator)) == 8
    assert "train-gold-0" not in heard.kept() or "curate" in heard.ran()


def test_interrupted_anywhere_a_run_ends_as_an_undisturbed_one(
    task: Task, whole: jg.Run, tmp_path: Path
) -> None:
    for limit in (0, 5, 13):

        def interrupted(request: Request, limit: int = limit) -> str:
            nonlocal sent
            sent += 1
            if sent > limit:
                raise KeyboardInterrupt
            return write_text(request)

        sent = 0
        with pytest.raises(KeyboardInterrupt):
            _run(task, tmp_path / "pieces", generator=ScriptedGenerator(interrupted))
    pieces, _, generator = _run(task, tmp_path / "pieces")
    assert len(_asked(generator)) == 24 - 18
    assert pieces.dataset.fingerprint == whole.dataset.fingerprint
    scores = [r.metrics["scores"]["with_synthetic"]["macro_f1"] for r in (whole, pieces)]
    assert scores[0] == scores[1]


def test_failed_requests_are_named_and_tried_again(task: Task, tmp_path: Path) -> None:
    def flaky(request: Request) -> str | Answer:
        if request.label == "返品":
            return Answer(request.id, "", "error", error="HTTP 500")
        return write_text(request)

    run, heard, _ = _run(task, tmp_path / "run", generator=ScriptedGenerator(flaky))
    assert run.metrics["counts"]["failed"] == 12
    assert run.dataset.texts.count("") == 12
    assert "12 of 24 requests have no answer (HTTP 500)" in heard.notes[0]
    run, _, generator = _run(task, tmp_path / "run")
    assert len(_asked(generator)) == 12
    assert run.metrics["counts"]["failed"] == 0


def test_a_failed_request_has_the_latest_reason(task: Task, tmp_path: Path) -> None:
    for status in ("HTTP 500", "HTTP 429"):

        def flaky(request: Request, status: str = status) -> str | Answer:
            if request.label == "返品":
                return Answer(request.id, "", "error", error=status)
            return write_text(request)

        run, _, _ = _run(
            task, tmp_path / "run", generator=ScriptedGenerator(flaky), until="generate"
        )
        details = {e.rejected.detail for e in run.after("generate") if e.rejected}
        assert details == {status}


def test_the_encoder_is_loaded_once_a_run(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    for module in (encoder, trainer):

        def load(name: str, **how: Any) -> Any:
            read.append(name)
            return load_encoder(name, **how)

        monkeypatch.setattr(module, "load_encoder", load)
    compared = _changed(task, "curation", max_meaning_similarity=0.9999)
    compared = _changed(compared, "evaluation", baselines=True)
    _, heard, _ = _run(compared, tmp_path / "run")
    assert {"curate", "trust", "baseline-plain_gold-0", "train-synthetic-0"} <= heard.ran()
    assert read == [task.training.encoder]
    _run(compared, tmp_path / "run")
    assert len(read) == 1


def _politely(request: Request) -> str:
    """Writes plain text, whatever was asked for, and rewrites into polite text."""
    if request.template.startswith("rewrite"):
        number = str(request.prompt).rpartition("元の文：")[2].split("番")[0]
        return f"{number}番の荷物がまだ届いておりませんので、お調べいただけますか。"
    return f"{request.seed % 10_000}番の荷物がまだ届いていない。"


def test_texts_in_another_register_are_kept_rewritten_or_rejected(
    task: Task, tmp_path: Path
) -> None:
    task = task.model_copy(
        update={"registers": {"plain": 0.25, "polite": 0.25, "casual": 0.25, "honorific": 0.25}}
    )
    run, _, generator = _run(task, tmp_path / "run", generator=ScriptedGenerator(_politely))
    counts = run.metrics["counts"]
    # Of 24 plain texts 6 were asked to be plain; rules make 6 polite and 6 casual, the model
    # 6 honorific.
    assert run.metrics["rejections"] == {"rewritten": 18}
    assert (counts["rewritten"], counts["kept"]) == (18, 24)
    assert {r.register.name for r in _asked(generator, "rewrite")} == {"honorific"}
    found = run.metrics["registers"]
    assert found["match_before"] == pytest.approx(0.25)
    assert found["match"] == 1
    assert found["distance"] < found["distance_before"]
    assert found["per_label"]["配送"]["seen"]["honorific"] == pytest.approx(1 / 4)
    children = [e for e in run.dataset if e.parent_id]
    assert {e.generator for e in children} == {"rules", "scripted"}
    assert {e.parent_id for e in children} == {e.id for e in run.dataset if e.rejected}

    again, _, generator = _run(task, tmp_path / "run", generator=ScriptedGenerator(_politely))
    assert generator.asked == []
    assert again.dataset.fingerprint == run.dataset.fingerprint

    ignored = _changed(task, "curation", register_miss="ignore")
    run, heard, generator = _run(ignored, tmp_path / "run")
    assert generator.asked == []
    assert "curate" in heard.kept()
    assert run.metrics["counts"]["kept"] == 24


def test_distances_and_diversity_are_measured_once(task: Task, tmp_path: Path) -> None:
    run, heard, _ = _run(task, tmp_path / "run", until="align")
    assert {"vectors", "diversity"} <= heard.ran()
    run, heard, _ = _run(task, tmp_path / "run")
    assert {"vectors", "align", "diversity"} <= heard.kept()
    found = run.metrics
    assert found["alignment"]["diagnostics"]["mean_discrepancy"]["before"]["value"] is not None
    assert set(found["diversity"]["against_gold"]["groups"]) == {"synthetic", "gold"}
    assert "Effective topics" in (run.path / "report.html").read_text(encoding="utf-8")


def test_rewriting_goes_on_where_it_was(task: Task, tmp_path: Path) -> None:
    task = task.model_copy(update={"registers": {"plain": 0.5, "honorific": 0.5}})
    whole, _, _ = _run(task, tmp_path / "whole", generator=ScriptedGenerator(_politely))
    sent = 0

    def failing(request: Request) -> str | Answer:
        nonlocal sent
        if request.template.startswith("rewrite"):
            sent += 1
            if sent % 2:
                return Answer(request.id, "", "error", error="HTTP 500")
            if sent == 4:
                raise KeyboardInterrupt
        return _politely(request)

    with pytest.raises(KeyboardInterrupt):
        _run(task, tmp_path / "pieces", generator=ScriptedGenerator(failing))
    _, heard, _ = _run(task, tmp_path / "pieces", generator=ScriptedGenerator(failing))
    assert any("requests have no answer" in note for note in heard.notes)
    pieces, _, _ = _run(task, tmp_path / "pieces", generator=ScriptedGenerator(_politely))
    assert pieces.dataset.fingerprint == whole.dataset.fingerprint


def test_no_answer_at_all_is_an_error(task: Task, tmp_path: Path) -> None:
    def down(request: Request) -> Answer:
        return Answer(request.id, "", "error", error="connection refused")

    with pytest.raises(JapagenError, match=r"None of 24[\s\S]*connection refused"):
        _run(task, tmp_path / "run", generator=ScriptedGenerator(down))


def test_synthetic_text_from_a_file_takes_the_place_of_generation(
    task: Task, tmp_path: Path
) -> None:
    rows = [
        {"text": text, "label": label}
        for label, word in (("配送", "荷物"), ("返品", "返品"))
        for text in [f"{word}のことで質問があります、{n}回目です。" for n in "一二三四五六七八"]
    ]
    path = write_jsonl(tmp_path / "other.jsonl", rows)
    run, _, generator = _run(task, tmp_path / "run", synthetic=path)
    assert generator.asked == []
    (source,) = run.metrics["sources"]
    assert (source["name"], source["kind"], source["origin"]) == ("other", "file", "other.jsonl")
    assert (source["texts"], source["kept"]) == (16, run.metrics["counts"]["kept"])
    assert run.metrics["generator"] is None
    assert run.metrics["counts"]["generated"] == 16
    assert run.metrics["scores"]["gain"] is not None
    assert run.metrics["registers"]["seen"]["polite"] > 0.5


def test_a_report_is_in_the_language_of_the_user(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who comes next with another language gets the page again and nothing else."""
    run, heard, _ = _run(task, tmp_path / "run")
    assert '<html lang="en">' in run.report().read_text(encoding="utf-8")
    monkeypatch.setenv("JAPAGEN_LANG", "ja")
    run, heard, _ = _run(task, tmp_path / "run")
    assert heard.ran() == {"report"}
    assert '<html lang="ja">' in run.report().read_text(encoding="utf-8")
    assert "## 学習データ" in (run.path / "model" / "README.md").read_text(encoding="utf-8")


def test_without_gold_it_works_from_descriptions_and_scores_are_not_measured(
    raw_task: dict[str, Any], tiny_encoder: str, tmp_path: Path
) -> None:
    del raw_task["gold"]
    raw_task["training"] = {"encoder": tiny_encoder, "max_steps": 2, "min_steps": 1}
    raw_task["label_prior"] = {"配送": 0.7, "返品": 0.3}
    run, _, generator = _run(Task.parse(raw_task), tmp_path / "run")
    assert generator.asked[0].template.startswith("zero_shot.document@")
    assert run.metrics["scores"] is None
    assert run.metrics["per_label"]["配送"]["weight_share"] == pytest.approx(0.7, abs=0.01)
    assert "not measured" in (run.path / "report.html").read_text(encoding="utf-8")
    assert run.classifier.predict(["荷物はどこ"])[0].label in ("配送", "返品")


def test_the_share_follows_from_how_many_texts_there_are_and_how_reliable(
    task: Task, tmp_path: Path
) -> None:
    task = _changed(task, "training", synthetic_share="auto")
    task = _changed(task, "generation", per_label=24, shots=2)
    # The scripted texts as they are: to an untrained encoder, rewritten ones are off topic.
    task = _changed(task, "curation", register_miss="ignore")
    task = task.model_copy(update={"mixing": task.mixing.model_copy(update={"repeats": 1})})
    run, heard, _ = _run(task, tmp_path / "run")
    mix = run.metrics["mix"]
    assert mix["provenance"] == "known"
    assert mix["folds"]["gold"] == run.metrics["counts"]["gold"]
    (source,) = mix["sources"].values()
    gold, kept = run.metrics["counts"]["gold"], run.metrics["counts"]["kept"]
    evidence = source["reliability"]["evidence"]
    assert (evidence["gold"], source["texts"]) == (gold, kept)
    assert source["text_weight"] > 0
    counted = kept * source["text_weight"]
    assert mix["share"] == pytest.approx(counted / (counted + gold))
    assert mix["reason"] == "reliable"
    (value,) = (found["value"] for found in run.metrics["sources"])
    assert value["share"] == pytest.approx(mix["share"])
    assert {"trust", "worth"} <= heard.ran()
    again, heard, _ = _run(task, tmp_path / "run")
    assert heard.ran() == set()
    assert again.metrics == run.metrics


def test_without_synthetic_text_the_model_of_gold_alone_is_shipped(
    task: Task, whole: jg.Run, finished: Path
) -> None:
    texts = ["荷物はどこですか。", "返したいです。"]
    with_synthetic = whole.classifier.probabilities(texts)
    run, heard, _ = _run(_changed(task, "training", synthetic_share=0.0), finished)
    assert {"trust", "align"} <= heard.kept()
    # Only what a run leaves is calibrated, and before that was the other one.
    assert "train-gold-0" in heard.ran()
    scores = run.metrics["scores"]
    assert scores["verdict"] == "not_used"
    assert scores["gain"] is None
    assert scores["with_synthetic"] == scores["gold_only"]
    assert run.metrics["mix"]["reason"] == "given"
    shipped = run.classifier.probabilities(texts)
    gold_only = type(run.classifier).load(run.path / "model-gold").probabilities(texts)
    assert shipped.tolist() == gold_only.tolist()
    assert shipped.tolist() != with_synthetic.tolist()
    html = (run.path / "report.html").read_text(encoding="utf-8")
    assert "the result is the gold-only classifier" in html


def test_the_directory_of_another_task_is_refused(task: Task, tmp_path: Path) -> None:
    _run(task, tmp_path / "run", until="generate")
    with pytest.raises(JapagenError, match="belongs to the task 'small'"):
        _run(task.model_copy(update={"name": "other"}), tmp_path / "run")


def test_when_curation_rejects_everything_it_says_why(task: Task, tmp_path: Path) -> None:
    generator = ScriptedGenerator(lambda request: "はい")
    with pytest.raises(JapagenError, match=r"rejected all 24 examples: \{'too_short': 24\}"):
        _run(task, tmp_path / "run", generator=generator)


def test_stages_stop_where_asked(task: Task, tmp_path: Path) -> None:
    run, _, _ = _run(task, tmp_path / "run", until="curate")
    assert len(run.after("curate")) >= 24
    assert not (run.path / "metrics.json").exists()
    with pytest.raises(JapagenError, match="has no metrics"):
        _ = run.metrics


def test_shots_never_show_test_texts(task: Task, tmp_path: Path) -> None:
    run, _, generator = _run(task, tmp_path / "run", until="generate")
    from japagen.config.task_data import load_data

    test = load_data(task).test
    assert test is not None
    prompts = json.dumps([r.prompt for r in generator.asked], ensure_ascii=False)
    assert not [text for text in test.texts if text in prompts]
    assert run.after("generate").column("shot_ids")[0]


def test_own_honorifics_reach_every_register_and_the_fingerprints(
    task: Task, finished: Path
) -> None:
    own = _changed(task, "japanese", honorifics={"荷物": "kenjogo2", "返品": "kenjogo2"})
    run, heard, _ = _run(own, finished, until="align")
    assert "curate" in heard.ran()
    seen = [e.register_seen for e in run.after("align")]
    assert any(r is not None and "kenjogo2" in r.keigo for r in seen)


def test_a_missing_user_dictionary_stops_a_run_at_once(task: Task, tmp_path: Path) -> None:
    broken = _changed(task, "japanese", user_dictionary=tmp_path / "none.dic")
    with pytest.raises(JapagenError, match="Expected a user dictionary"):
        _run(broken, tmp_path / "run")
