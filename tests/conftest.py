from __future__ import annotations

import ctypes
import gc
import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from hypothesis import settings

from japagen.config.task import Task
from japagen.data.files import to_yaml

ROOT = Path(__file__).parent.parent

# A shell starts its background jobs deaf to Ctrl-C, which the tests of it could not tell from
# a fault; processes that they start inherit this.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Messages are held to their English, whatever the machine's locale.
os.environ["JAPAGEN_LANG"] = "en"

# Machines that run the tests are shared: a slow example is no failure.
settings.register_profile("japagen", deadline=None, derandomize=True)
settings.load_profile("japagen")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Gives every process its share of what takes long, and quick tests to do after it.

    Processes begin with equal runs of the tests, one behind the other, and who is done takes over
    others from the end of such a run: long ones there would leave the rest idle in the end. Those
    of a file, or that share the quickstart, which takes longest, stay together; whole runs, in
    the files of this folder, come before others.
    """
    long: dict[str, list[pytest.Item]] = {}
    quick = []
    for item in items:
        if item.get_closest_marker("slow") is None:
            quick.append(item)
        else:
            shares = "quickstart" in getattr(item, "fixturenames", ())
            file = "quickstart" if shares else item.nodeid.partition("::")[0]
            long.setdefault(file, []).append(item)
    files = sorted(long, key=lambda name: (name.count("/"), name != "quickstart"))
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))
    order: list[pytest.Item] = []
    for number in range(processes):
        share = (len(items) - len(order)) // (processes - number)
        first = [item for file in files[number::processes] for item in long[file]]
        filling = max(share - len(first), 0)
        order += first + quick[:filling]
        del quick[:filling]
    items[:] = order + quick


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Gives back what models took: glibc keeps a gigabyte of it, from one test to the next."""
    if item.get_closest_marker("slow") and sys.platform == "linux":
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)


class Heard:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, str, str]] = []
        self.notes: list[str] = []

    def stage(self, name: str, news: str, detail: str) -> None:
        self.stages.append((name, news, detail))

    def note(self, message: str) -> None:
        self.notes.append(message)

    def track(self, items: Any, total: int | None, what: str) -> Any:
        yield from items

    def ran(self) -> set[str]:
        return {name for name, news, _ in self.stages if news == "done"}

    def kept(self) -> set[str]:
        return {name for name, news, _ in self.stages if news == "kept"}


BROWSER = next(
    (
        found
        for name in ("chromium", "chromium-browser", "google-chrome")
        if (found := shutil.which(name))
    ),
    None,
)


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser that asks for nothing by itself."""
    from playwright.sync_api import sync_playwright

    options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=options)
        yield browser
        browser.close()


GOLD = {
    "配送": [
        "荷物はいつ届きますか。",
        "再配達をお願いしたいのですが、どこから頼めますか。",
        "届け先を実家に変えられますか。",
        "追跡番号が反映されない。",
        "まだ届いてないんだけど。",
        "お届け日を伺えますでしょうか。",
    ],
    "返品": [
        "サイズが合わないので返品したいです。",
        "定期便を今月でやめたい。",
        "色違いに交換できますか。",
        "返品の送料は誰が払うのか。",
        "もう使わないから解約したいんだけど。",
        "返品の手続きを伺いたく存じます。",
    ],
}


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def thin_out(lines: int, file: Path, copy: Path) -> None:
    """Copies about so many lines of a file, from all over it."""
    read = file.read_text(encoding="utf-8").splitlines(keepends=True)
    copy.write_text("".join(read[:: max(round(len(read) / lines), 1)]), encoding="utf-8")


def write_gold(path: Path) -> Path:
    rows = [{"text": text, "label": label} for label, texts in GOLD.items() for text in texts]
    return write_jsonl(path, rows)


@pytest.fixture
def gold_file(tmp_path: Path) -> Path:
    return write_gold(tmp_path / "gold.jsonl")


def small_task(gold: Path) -> dict[str, Any]:
    """A small task as a mapping, for tests to change."""
    return {
        "name": "small",
        "text_type": "問い合わせ",
        "labels": {"配送": "届く日や届け先", "返品": "返品や解約"},
        "gold": {"path": str(gold)},
        "generation": {"per_label": 12, "shots": 3, "texts_per_request": 1},
        # Scripted texts are a few sentences with a number in them.
        "curation": {"max_similarity": 1.0},
        # Fitting baselines is a quarter of a small run: where they matter, tests ask for them.
        "evaluation": {"test_share": 0.34, "bootstrap": 200, "baselines": False},
    }


@pytest.fixture
def raw_task(gold_file: Path) -> dict[str, Any]:
    return small_task(gold_file)


@pytest.fixture
def task(raw_task: dict[str, Any]) -> Task:
    return Task.parse(raw_task)


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A BERT of the real class with random weights and one piece a character."""
    import torch
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    path = tmp_path_factory.mktemp("encoder")
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    characters = sorted({c for texts in GOLD.values() for text in texts for c in text})
    pieces = [*special, *characters, *"荷物届送返品商再配達頼変定期便交換サイズ先日件番"]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    names = dict(zip(("pad", "unk", "cls", "sep", "mask"), special, strict=True))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, **{f"{k}_token": v for k, v in names.items()}
    )
    fast.save_pretrained(path)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=128,
    )
    BertModel(config).save_pretrained(path)
    return str(path)


def write_task(gold: Path, encoder: str) -> Path:
    """The file of a task, beside its gold, that a command runs in a second or two."""
    task = {
        "name": "small",
        "labels": {"配送": "届く日", "返品": "返品や解約"},
        "gold": gold.name,
        "training": {"encoder": encoder, "min_steps": 1, "max_steps": 1, "synthetic_share": 0.4},
        "evaluation": {"bootstrap": 100},
    }
    path = gold.with_name("small.yaml")
    path.write_text(to_yaml(task), encoding="utf-8")
    return path


@pytest.fixture
def task_file(gold_file: Path, tiny_encoder: str) -> Path:
    return write_task(gold_file, tiny_encoder)


@pytest.fixture(scope="session")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the quickstart, with 8 gold texts per label, has been run.

    It takes a minute or two, so that processes that share the tests take copies of one.
    """
    import japagen as jg

    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "quickstart"
    configs = folder / "configs"
    with FileLock(f"{folder}.lock"), pytest.MonkeyPatch.context() as patch:
        if not configs.is_dir():
            (configs / "quickstart").mkdir(parents=True)
            # The real encoder reads 50 texts a second, most of them several times.
            lines = {"pool": 10_000, "strong_llm": 160, "test": 104}
            for name, most in lines.items():
                file = Path("quickstart", f"{name}.jsonl")
                thin_out(most, ROOT / "configs" / file, configs / file)
            text = (ROOT / "configs/quickstart.yaml").read_text(encoding="utf-8")
            assert text.count("per_label: 16") == 1
            small = text.replace("per_label: 16", "per_label: 8")
            # A step of the real encoder is most of a second.
            small = small.replace("training:\n", "training:\n  max_steps: 20\n")
            (configs / "quickstart.yaml").write_text(small, encoding="utf-8")
        patch.chdir(folder)
        if not Path("runs/quickstart/report.html").exists():
            jg.run(jg.Task.load("configs/quickstart.yaml"), out="runs/quickstart")
    own = tmp_path_factory.mktemp("own") / "quickstart"
    return shutil.copytree(folder, own, symlinks=True, ignore=shutil.ignore_patterns(".lock"))
