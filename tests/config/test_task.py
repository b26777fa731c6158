"""What a task file of an older version is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from japagen.config.task import REMOVED, Task
from japagen.config.yaml_file import parse_overrides
from japagen.data.files import resource_dir, to_yaml
from japagen.errors import JapagenError
from japagen.i18n import localized
from japagen.pipeline.kinds import KINDS, kind_of


@pytest.mark.parametrize("setting", REMOVED)
def test_a_removed_setting_says_what_to_use_instead(raw_task: dict[str, Any], setting: str) -> None:
    dotted, _, value = setting.partition(": ")
    *sections, key = dotted.split(".")
    section = raw_task
    for name in sections:
        section = section.setdefault(name, {})
    section[key] = value or 1
    with pytest.raises(JapagenError) as caught:
        Task.parse(raw_task, "t.yaml")
    assert str(caught.value).splitlines() == [
        "t.yaml has 1 problem(s):",
        f"  - {REMOVED[setting]}",
        "Correct the keys named above.",
    ]
    assert REMOVED[setting].startswith(f"{setting} was removed in 0.2")
    assert "0.2 で廃止しました" in localized(REMOVED[setting], "ja")


def test_what_an_earlier_run_recorded_is_read_without_what_was_removed(
    tmp_path: Path, raw_task: dict[str, Any]
) -> None:
    raw = Task.parse(raw_task).model_dump(mode="json")
    raw |= {"balance": {}, "alignment": {"method": "auto", "resample": None}}
    raw["training"]["soft_labels"] = 0.5
    path = tmp_path / "task.yaml"
    path.write_text(to_yaml(raw), encoding="utf-8")
    assert Task.load(path, recorded=True) == Task.parse(raw_task)
    with pytest.raises(JapagenError, match="has 4 problem"):
        Task.load(path)


def test_unknown_keys_are_all_named_with_the_nearest_known_one(raw_task: dict[str, Any]) -> None:
    raw_task["generaton"] = {}
    raw_task["generation"] = {"shot": 3}
    with pytest.raises(JapagenError) as caught:
        Task.parse(raw_task)
    assert "'generaton' (did you mean 'generation'?)" in str(caught.value)
    assert "'generation.shot' (did you mean 'shots'?)" in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("labels", ["一つ"], "at least 2, found 1"),
        ("labels", None, "labels"),
        ("name", "a b", "found 'a b'"),
        ("registers", {"polite": 0.5}, "registers should add up to 1, found 0.5"),
        ("registers", {"politely": 1.0}, "registers names 'politely'"),
        ("label_prior", {"配送": 0.5, "返金": 0.5}, "label_prior names '返金'"),
        ("label_prior", "guess", "label_prior"),
        ("training", {"synthetic_share": 1.5}, "training.synthetic_share"),
        ("japanese", {"honorifics": {"ご来駕": "sonkego"}}, "japanese.honorifics"),
        ("japanese", {"dictionary": "user.dic"}, "unknown key 'japanese.dictionary'"),
        ("gold", {"path": "x.csv", "columns": {"txt": "本文"}}, "'txt' is none of text"),
        (
            "concepts",
            {"配走": {"再配達": 0.2}},
            r"concepts names .*'配走' \(did you mean '配送'\?\)",
        ),
        ("concepts", {"配送": {"再配達": 20}}, "concepts.配送.再配達: .*less than or equal to 1"),
        (
            "concepts",
            {"配送": {"a": 0.7, "b": 0.4}},
            "'配送' should add up to at most 1, found 1.1",
        ),
        ("concepts", ["再配達"], "concepts: expected keys with values"),
        ("concepts", {"配送": {"再\n配達": 0.1}}, "concepts"),
        ("rare_cases", {"返品物": ["箱が空"]}, "rare_cases names the label '返品物'"),
        ("boundary_cases", [{"labels": ["配送", "返金"]}], "boundary_cases names the label '返金'"),
        ("boundary_cases", [{"labels": ["配送", "配送"]}], "two labels, found '配送' twice"),
        (
            "boundary_cases",
            [{"label": ["配送"]}],
            r"'boundary_cases.0.label' \(did you mean 'labels'",
        ),
        (
            "generation",
            {"knowledge": {"配層": ["家具"]}},
            "generation.knowledge names the label '配層'",
        ),
        ("generation", {"rounds": 0}, "generation.rounds"),
        ("generation", {"until": 5, "rounds": 2}, "one kind of rounds, found rounds: 2 besides"),
        ("generation", {"until": 0}, "generation.until.kept"),
        ("generation", {"until": {"kept": 5, "least_yield": 0}}, "generation.until.least_yield"),
        ("generation", {"until": {"rounds": 3}}, "generation.until.kept"),
    ],
)
def test_wrong_values_are_explained(
    raw_task: dict[str, Any], key: str, value: Any, message: str
) -> None:
    raw_task[key] = value
    with pytest.raises(JapagenError, match=message):
        Task.parse(raw_task)


def test_labels_may_be_a_list(raw_task: dict[str, Any]) -> None:
    raw_task["labels"] = ["配送", "返品"]
    assert Task.parse(raw_task).labels == {"配送": "", "返品": ""}


def test_a_list_of_concepts_asks_for_each_in_a_tenth_and_for_half_at_most(
    raw_task: dict[str, Any],
) -> None:
    raw_task["concepts"] = {"配送": ["再配達"], "返品": [f"語{i}" for i in range(10)]}
    concepts = Task.parse(raw_task).concepts
    assert concepts["配送"] == {"再配達": 0.1}
    assert set(concepts["返品"].values()) == {0.05}


def test_wishes_of_a_label_are_shares_of_its_texts(raw_task: dict[str, Any]) -> None:
    raw_task |= {
        "concepts": {"配送": {"再配達": 0.2}},
        "rare_cases": {"配送": ["箱が空だった", "海外から"]},
        "boundary_cases": [{"labels": ["配送", "返品"]}],
    }
    task = Task.parse(raw_task)
    assert {str(k): s for k, s in task.wanted_shares("配送").items()} == {
        "concept:再配達": 0.2,
        "rare:箱が空だった": 0.05,
        "rare:海外から": 0.05,
        "boundary:返品": 0.05,
    }
    assert task.wanted_shares("返品") == {}
    assert Task.parse(YAML(typ="safe").load(task.to_yaml())) == task


def test_paths_are_relative_to_the_task_file(tmp_path: Path) -> None:
    path = tmp_path / "task.yaml"
    path.write_text("name: t\nlabels: [a, b]\ngold: data/gold.csv\n", encoding="utf-8")
    task = Task.load(path)
    assert task.gold is not None
    assert task.gold.path == tmp_path / "data" / "gold.csv"


def test_dictionaries_are_relative_to_the_task_file(tmp_path: Path) -> None:
    path = tmp_path / "task.yaml"
    task = "name: t\nlabels: [a, b]\njapanese:\n  user_dictionary: user.dic\n  honorifics: "
    path.write_text(task + "own.yaml\n", encoding="utf-8")
    japanese = Task.load(path).japanese
    assert japanese.user_dictionary == tmp_path / "user.dic"
    assert japanese.honorifics == tmp_path / "own.yaml"
    path.write_text(task + "{ご来駕: sonkeigo}\n", encoding="utf-8")
    assert Task.load(path).japanese.honorifics == {"ご来駕": "sonkeigo"}


def test_overrides_reach_any_key(tmp_path: Path) -> None:
    path = tmp_path / "task.yaml"
    path.write_text("name: t\nlabels: [a, b]\ngold: gold.csv\n", encoding="utf-8")
    overrides = parse_overrides(
        ["seed=7", "generation.per_label=3", "gold.per_label=2", "label_prior={a: 0.5, b: 0.5}"]
    )
    task = Task.load(path, overrides)
    assert task.seed == 7
    assert task.generation.per_label == 3
    assert task.gold is not None
    assert task.gold.per_label == 2
    assert task.gold.path == tmp_path / "gold.csv"
    assert task.label_prior == {"a": 0.5, "b": 0.5}


@pytest.mark.parametrize("assignment", ["seed", "=3", "seed=[1"])
def test_broken_overrides_are_refused(assignment: str) -> None:
    with pytest.raises(JapagenError, match="--set"):
        parse_overrides([assignment])


@pytest.mark.parametrize(
    ("content", "message"),
    [("- a\n", "found a list"), ("name: [\n", "YAML"), ("", "found nothing")],
)
def test_files_that_are_no_task_are_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "task.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(JapagenError, match=message):
        Task.load(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(JapagenError, match=r"no task file at[\s\S]*japagen init"):
        Task.load(tmp_path / "none.yaml")


def test_the_example_of_the_closed_loop_is_a_task() -> None:
    text = (Path(__file__).parents[2] / "docs" / "closed_loop.md").read_text(encoding="utf-8")
    raw = YAML(typ="safe").load(text.split("```yaml\n")[1].split("```")[0])
    labels = ["配送", "請求・支払い", "解約・返品", "技術トラブル"]
    task = Task.parse({"name": "t", "labels": labels, **raw})
    assert sum(task.wanted_shares("配送").values()) == pytest.approx(0.35)


CONFIGS = sorted(p for p in resource_dir("configs").rglob("*.yaml") if p.name != "topics.yaml")


@pytest.mark.parametrize("path", CONFIGS, ids=str)
def test_every_configuration_loads(path: Path) -> None:
    if kind := kind_of(path):
        assert kind.load(path).kind in KINDS
        return
    task = Task.load(path)
    for source in (task.gold, task.test, task.unlabelled):
        assert source is None or source.path.is_file()


def test_a_written_task_means_the_same_wherever_it_lies(
    tmp_path: Path, gold_file: Path, tiny_encoder: str
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    path = tmp_path / "task.yaml"
    path.write_text(
        "name: t\nlabels: [配送, 返品]\ngold: gold.jsonl\ngeneration: {prompts: mine}\n"
        "generator: {model: model.gguf}\ntraining: {encoder: mine}\n",
        encoding="utf-8",
    )
    task = Task.load(path)
    assert task.generation.prompts == tmp_path / "mine"
    assert task.generator.model == str(tmp_path / "model.gguf")
    assert task.training.encoder == str(tmp_path / "mine")
    elsewhere = tmp_path / "mine" / "task.yaml"
    elsewhere.write_text(task.to_yaml(), encoding="utf-8")
    assert Task.load(elsewhere) == task


def test_paths_beside_a_task_are_written_as_seen_from_there(
    tmp_path: Path, gold_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "task.yaml"
    text = (
        "name: t\nlabels: [配送, 返品]\ngold: gold.jsonl\nsources: [{name: a, path: gold.jsonl}]\n"
    )
    path.write_text(text, encoding="utf-8")
    task = Task.load(path)
    kept = tmp_path / "runs" / "t"
    kept.mkdir(parents=True)
    raw = YAML(typ="safe").load(task.to_yaml(kept))
    assert raw["gold"]["path"] == raw["sources"][0]["path"] == "../../gold.jsonl"
    # What shares the home alone stays where it is when one of the two is moved.
    monkeypatch.setenv("HOME", str(tmp_path))
    raw = YAML(typ="safe").load(task.to_yaml(kept))
    assert raw["gold"]["path"] == str(gold_file)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"lables": ["a"]}, "unknown key 'lables' .did you mean 'labels'"),
        ({"seed": "x"}, "seed: expected a valid integer"),
        ({"balance": {}}, "balance was removed in 0.2"),
        ({"labels": ["配送"]}, "labels: expected at least 2, found 1"),
    ],
)
def test_a_task_that_is_wrong_in_code_is_told_as_a_file_is(
    wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(JapagenError, match=message) as told:
        Task(**{"name": "t", "labels": ["配送", "返品"], **wrong})
    assert str(told.value).startswith("the task has 1 problem(s):")
    assert told.value.hint == "Correct the keys named above."


def test_a_description_may_be_a_list_of_phrases(raw_task: dict[str, Any]) -> None:
    raw_task["labels"] = {"配送": ["届く日", "届け先"], "返品": []}
    assert Task.parse(raw_task).labels == {"配送": "届く日、届け先", "返品": ""}
    raw_task["labels"] = {"配送": [["届く日"]], "返品": "解約"}
    with pytest.raises(JapagenError, match="labels"):
        Task.parse(raw_task)


def test_names_of_models_stay_names(raw_task: dict[str, Any]) -> None:
    again = YAML(typ="safe").load(Task.parse(raw_task).to_yaml())
    assert again["training"]["encoder"] == "embedded"
    assert again["generator"]["model"] == "gemma3-270m"
    assert again["test"] is None


@pytest.mark.parametrize("label", ["1", "true"])
def test_labels_that_yaml_takes_for_values_ask_for_quotes(tmp_path: Path, label: str) -> None:
    path = tmp_path / "task.yaml"
    path.write_text(f"name: t\nlabels: [{label}, b]\n", encoding="utf-8")
    with pytest.raises(JapagenError, match="put it in quotes"):
        Task.load(path)


@pytest.mark.parametrize("name", ["..", ".", "-x", ".hidden", "a/b", ""])
def test_a_name_is_no_way_out_of_a_directory(raw_task: dict[str, Any], name: str) -> None:
    with pytest.raises(JapagenError, match="name: expected"):
        Task.parse({**raw_task, "name": name})


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"labels": [{"請求": "請求額"}, "配送"]}, "labels: expected names in the list"),
        ({"labels": [["a"], "b"]}, "labels: expected names in the list"),
        ({"concepts": {"配送": [["x"]]}}, "concepts.配送: expected keys with values"),
        ({"generation": {"per_label": 10**12}}, "generation.per_label: expected less than"),
        ({"generation": [["x" * 900] * 9] * 9}, "generation: expected keys with values, found "),
    ],
)
def test_what_no_section_can_hold_is_told_in_a_line(
    raw_task: dict[str, Any], more: dict[str, Any], message: str
) -> None:
    with pytest.raises(JapagenError) as caught:
        Task.parse({**raw_task, **more})
    assert message in caught.value.message
    assert len(caught.value.message) < 400


@pytest.mark.parametrize(
    ("tests", "message"),
    [
        ({"macro_f2": 0.8}, "found 'macro_f2' (did you mean 'macro_f1'?)"),
        ({"spearman": 0.8}, "tests: expected one of macro_f1, accuracy, matthews"),
        ({"macro_f1": 80}, "tests.macro_f1: expected less than or equal to 1"),
        ({"macro_f1": True}, "tests.macro_f1"),
        ({"leakage": -0.1}, "tests.leakage: expected a number from 0 to 1, found -0.1"),
        ({"macro_f1": float("nan")}, "tests.macro_f1"),
    ],
)
def test_wrong_tests_are_refused(
    raw_task: dict[str, Any], tests: dict[str, Any], message: str
) -> None:
    with pytest.raises(JapagenError) as caught:
        Task.parse({**raw_task, "tests": tests})
    assert message in f"{caught.value}"


def test_tests_are_bounds_of_what_is_measured(raw_task: dict[str, Any]) -> None:
    wanted = {"macro_f1": 0.8, "label_f1": 0.6, "leakage": 0, "register_match": 0.9}
    assert Task.parse({**raw_task, "tests": wanted}).tests == wanted
