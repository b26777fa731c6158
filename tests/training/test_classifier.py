from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from japagen.config.sections import TUNED_FROM, Training
from japagen.data.dataset import Dataset, Example, Rejection
from japagen.data.labels import LabelSpace
from japagen.errors import JapagenError
from japagen.training.classifier import Classifier
from japagen.training.encoder import Encoder, load_encoder
from japagen.training.head import head_features
from japagen.training.trainer import _sample_weights, train, untrained
from tests.conftest import GOLD

SHORT = Training(tune="always", min_steps=2, max_steps=2, max_length=64)
HEAD = Training(max_length=64)


def _gold() -> Dataset:
    return Dataset.of(
        Example(text, label, split="train") for label, texts in GOLD.items() for text in texts
    )


@pytest.fixture(scope="module")
def encoder(tiny_encoder: str) -> Encoder:
    return load_encoder(tiny_encoder)


@pytest.fixture(scope="module")
def classifier(encoder: Encoder) -> Classifier:
    return train(None, _gold(), encoder=encoder, settings=SHORT)


def test_a_saved_classifier_predicts_the_same(classifier: Classifier, tmp_path: Path) -> None:
    classifier.save(tmp_path / "model")
    again = Classifier.load(tmp_path / "model")
    texts = ["荷物はどこ", "返品したい"]
    assert again.labels == classifier.labels
    np.testing.assert_allclose(
        again.probabilities(texts), classifier.probabilities(texts), atol=1e-6
    )
    assert not list((tmp_path / "model").glob("*.bin"))


def test_a_saved_classifier_is_an_ordinary_checkpoint(
    classifier: Classifier, tmp_path: Path
) -> None:
    from transformers import pipeline

    classifier.save(tmp_path / "model")
    text = "サイズを交換できますか"
    found = pipeline("text-classification", model=str(tmp_path / "model"))(text)[0]
    prediction = classifier.predict([text])[0]
    assert found["label"] == prediction.label
    assert found["score"] == pytest.approx(prediction.probabilities[prediction.label], abs=1e-5)


def test_the_added_layer_gives_the_mean_of_the_token_states(encoder: Encoder) -> None:
    assert encoder.pooling == "mean"
    untrained = train(None, _gold(), encoder=encoder)
    rows = untrained.encode(GOLD["配送"])
    features = head_features(untrained, rows)
    for row, seen in zip(rows, features, strict=True):
        with torch.inference_mode():
            states = encoder.model(**untrained.collate([row])).last_hidden_state[0].numpy()
        expected = states.mean(axis=0)
        assert np.corrcoef(seen, expected)[0, 1] > 0.99


def test_training_leaves_the_encoder_as_it_was(encoder: Encoder) -> None:
    before = {k: v.clone() for k, v in encoder.model.state_dict().items()}
    train(None, _gold(), encoder=encoder, settings=SHORT)
    after = encoder.model.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)


def test_the_same_seed_trains_the_same_classifier(encoder: Encoder) -> None:
    first, second = (
        train(None, _gold(), encoder=encoder, settings=SHORT, seed=3).probabilities(["荷物"])
        for _ in range(2)
    )
    np.testing.assert_allclose(first, second, atol=1e-6)


def _probabilities(encoder: Encoder, text: str, **given: Any) -> dict[str, float]:
    classifier = train(
        given.pop("examples", None), given.pop("gold", None), encoder=encoder, **given
    )
    return classifier.predict([text])[0].probabilities


def test_labels_are_known_by_what_they_are_said_to_cover(encoder: Encoder) -> None:
    described = {"配送": "荷物、追跡番号、届け先", "返品": "サイズ、交換、定期便"}
    zero_gold = train(None, None, encoder=encoder, descriptions=described)
    assert [p.label for p in zero_gold.predict(["荷物", "交換"])] == ["配送", "返品"]
    swapped = {"配送": described["返品"], "返品": described["配送"]}
    right, wrong = (
        _probabilities(encoder, "届け先", gold=_gold(), descriptions=d)["配送"]
        for d in (described, swapped)
    )
    assert right > wrong


def test_descriptions_stay_out_of_pairs(encoder: Encoder) -> None:
    rows = [Example(t, label, text_pair=t) for label, ts in GOLD.items() for t in ts]
    pairs = Dataset.of(rows)
    plain, described = (
        train(None, pairs, encoder=encoder, labels=list(GOLD), descriptions=d).probabilities(
            ["荷物"], ["荷物"]
        )
        for d in (None, {"配送": "荷物", "返品": "返品"})
    )
    np.testing.assert_array_equal(plain, described)


def test_synthetic_text_with_a_doubtful_label_counts_for_less(encoder: Encoder) -> None:
    def wrong(trust: float) -> Dataset:
        doubtful = [Example(t, "返品", weight_label=trust) for t in GOLD["配送"]]
        return Dataset.of([*doubtful, *(Example(t, "返品") for t in GOLD["返品"])])

    believed, doubted, disbelieved = (
        _probabilities(encoder, "荷物", gold=_gold(), examples=wrong(trust))["配送"]
        for trust in (1.0, 0.5, 0.0)
    )
    assert believed < doubted < disbelieved


def test_the_encoder_is_tuned_from_so_much_gold_on(encoder: Encoder) -> None:
    def vector(settings: Training) -> np.ndarray[Any, Any]:
        classifier = train(None, _gold(), encoder=encoder, settings=settings)
        return head_features(classifier, classifier.encode(["荷物"]))

    frozen = vector(Training(tune="never"))
    np.testing.assert_array_equal(vector(Training()), frozen)
    assert not np.array_equal(vector(SHORT), frozen)
    assert not Training().tunes(TUNED_FROM * 2 - 1, 2)
    assert Training().tunes(TUNED_FROM * 2, 2)


@pytest.mark.parametrize("settings", [HEAD, SHORT])
def test_it_is_cross_validated_on_gold_and_a_doubtful_text_gets_no_label(
    encoder: Encoder, settings: Training, tmp_path: Path
) -> None:
    classifier = train(None, _gold(), encoder=encoder, settings=settings)
    assert len(classifier.out_of_fold) == len(_gold())
    classifier.save(tmp_path / "model")
    again = Classifier.load(tmp_path / "model")
    assert again.out_of_fold == classifier.out_of_fold
    share = sum(right for _, right in again.out_of_fold) / len(again.out_of_fold)
    assert again.confidence_for(share) <= min(c for c, _ in again.out_of_fold if c)
    probability = max(again.predict(["荷物"])[0].probabilities.values())
    for bound, label in ((probability - 1e-9, True), (probability + 1e-9, False)):
        assert (again.predict(["荷物"], abstain_below=bound)[0].label is not None) is label
    assert all(p.label is None for _, p in again.predict_stream(iter(["荷物"]), 2, 1.01))


@given(st.floats(0, 0.99), st.lists(st.floats(0.01, 10), min_size=1, max_size=8))
def test_synthetic_text_carries_its_share_of_the_loss(share: float, weights: list[float]) -> None:
    rejected = Rejection("too_short", 1, 6)
    rows = [Example(str(i), "x", weight_distribution=w) for i, w in enumerate(weights)]
    synthetic = Dataset.of([*rows, Example("r", "x", rejected=rejected)])
    gold = len(_gold())
    mass = _sample_weights(gold, synthetic.kept, share)
    assert len(mass) == gold + len(weights)
    assert (mass[:gold] == 1).all()
    assert mass[gold:].sum() / mass.sum() == pytest.approx(share, abs=1e-9)
    np.testing.assert_allclose(mass[gold:] * sum(weights), mass[gold:].sum() * np.array(weights))


def test_any_number_of_texts_is_classified_in_order(classifier: Classifier) -> None:
    texts = [t for group in GOLD.values() for t in group] * 3
    streamed = list(classifier.predict_stream(iter(texts), batch_size=7))
    assert [t for t, _ in streamed] == texts
    whole = classifier.predict(texts)
    assert [p.label for _, p in streamed] == [p.label for p in whole]
    assert classifier.predict([]) == []
    assert classifier.probabilities([]).shape == (0, 2)


def test_what_cannot_be_used_is_refused(
    classifier: Classifier, encoder: Encoder, tmp_path: Path
) -> None:
    with pytest.raises(JapagenError, match="list of texts"):
        classifier.predict("荷物")
    with pytest.raises(JapagenError, match="found none"):
        train(None, None, encoder=encoder)
    with pytest.raises(JapagenError, match="found 返品"):
        train(None, _gold(), encoder=encoder, labels=["配送", "請求"])
    with pytest.raises(JapagenError, match="cross-validated on gold, found none"):
        Classifier(classifier.model, None, ["a"]).confidence_for(0.9)
    with pytest.raises(JapagenError, match="Expected a confidence with 100% right"):
        Classifier(classifier.model, None, ["a"], out_of_fold=[(0.9, False)]).confidence_for(1)
    with pytest.raises(JapagenError, match=r"found no japagen\.json"):
        Classifier.load(tmp_path)


@pytest.fixture(scope="module")
def short(encoder: Encoder) -> Classifier:
    return train(None, _gold(), encoder=encoder, settings=Training(max_length=24))


def test_a_long_text_is_read_in_parts(short: Classifier) -> None:
    parts = ["荷物がまだ届いていません。", "再配達をお願いします。", "サイズを交換できますか。"]
    assert short._in_parts("".join(parts)) == ["".join(parts[:1]), parts[1], parts[2]]
    whole = short.predict(["".join(parts), parts[0]])
    assert [p.parts for p in whole] == [3, 1]
    each = short.probabilities(parts)
    lengths = np.array([len(row["input_ids"]) for row in short.encode(parts)])
    np.testing.assert_allclose(
        list(whole[0].probabilities.values()), lengths @ each / lengths.sum(), atol=1e-6
    )
    # What only the last sentence says is heard.
    other = short.probabilities(["".join([*parts[:2], "届け先の住所を変えたい。"])])
    assert not np.allclose(other, short.probabilities(["".join(parts)]), atol=1e-6)


@given(st.text("荷物が届。\n", max_size=200))
def test_parts_are_all_of_a_text_and_fit(short: Classifier, text: str) -> None:
    parts = short._in_parts(text)
    assert "".join(parts).split() == text.split() or not text.strip()
    assert all(len(row["input_ids"]) <= 24 for row in short.encode(parts or [""]))
    assert short.probabilities([text]).shape == (1, 2)


def test_what_is_no_text_has_no_label(short: Classifier) -> None:
    texts = ["荷物", "", None, float("nan"), " \u200b\n", "返品"]
    found = short.predict(texts)  # type: ignore[arg-type]
    assert [p.label is None for p in found] == [False, True, True, True, True, False]
    assert found[1].probabilities == {}
    assert found[0] == short.predict(["荷物"])[0]
    assert short.predict([]) == []


def test_characters_that_nobody_sees_change_nothing(short: Classifier) -> None:
    one, other = short.probabilities(["荷物の配達日", "荷\u200b物の\ufe00配達日\u2060"])
    np.testing.assert_allclose(one, other)


def test_the_scope_is_saved_and_told(short: Classifier, encoder: Encoder, tmp_path: Path) -> None:
    assert short.scope is not None
    assert len(short.scope.vectors) == len(_gold())
    texts = [*GOLD["配送"], "Franz jagt im komplett verwahrlosten Taxi quer durch Bayern"]
    told = [p.out_of_scope for p in short.predict(texts)]
    assert told == [False] * len(GOLD["配送"]) + [True]
    short.save(tmp_path / "model")
    again = Classifier.load(tmp_path / "model")
    assert [p.out_of_scope for p in again.predict(texts)] == told
    uncalibrated = train(None, _gold(), encoder=encoder, settings=HEAD, calibrated=False)
    assert uncalibrated.scope is None
    assert uncalibrated.predict(texts[:1])[0].out_of_scope is None


def test_code_in_a_directory_is_not_run_nor_asked_about(
    short: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model"
    short.save(path)
    config = json.loads((path / "config.json").read_text("utf-8"))
    config |= {
        "model_type": "stranger",
        "auto_map": {
            "AutoConfig": "strange.StrangeConfig",
            "AutoModelForSequenceClassification": "strange.StrangeModel",
        },
    }
    (path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    marker = tmp_path / "ran"
    (path / "strange.py").write_text(f"open({str(marker)!r}, 'w').close()\n", encoding="utf-8")

    def ask(*_: object) -> str:
        raise AssertionError("asked on standard input")

    monkeypatch.setattr("builtins.input", ask)
    with pytest.raises(JapagenError):
        Classifier.load(path)
    assert not marker.exists()


def test_pairs_that_are_cut_are_told(encoder: Encoder) -> None:
    rows = [Example(text, label, text_pair=text) for label, texts in GOLD.items() for text in texts]
    made = train(None, Dataset.of(rows), encoder=encoder, settings=Training(max_length=16))
    assert made.is_bi_encoder
    found = made.predict(["荷物", "荷物", "荷物"], ["返品", "返品" * 20, ""])
    assert [p.cut for p in found] == [False, True, False]
    assert [p.label is None for p in found] == [False, False, True]
    assert found[0].out_of_scope is None


def test_a_classifier_is_read_from_a_directory_or_the_cache_of_the_hub(
    classifier: Classifier, tmp_path: Path
) -> None:
    classifier.save(tmp_path / "model")
    directory = Classifier.from_pretrained(tmp_path / "model")
    assert directory.probabilities(["返品"]) == pytest.approx(classifier.probabilities(["返品"]))
    # As the Hub's own client leaves what it downloads.
    cached = tmp_path / "hub" / "models--someone--inquiries"
    commit = "0123456789abcdef0123456789abcdef01234567"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text(commit)
    classifier.save(cached / "snapshots" / commit)
    program = (
        "from japagen import Classifier;"
        "print(Classifier.from_pretrained('someone/inquiries').labels)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(classifier.labels)


class _Hub(BaseHTTPRequestHandler):
    """The part of the Hub that an upload speaks to; what comes is kept in ``server.files``."""

    server: Any

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path
        if path.endswith("/repos/create"):
            answer = {"url": f"{self._home()}/someone/inquiries"}
        elif "/preupload/" in path:
            files = json.loads(body)["files"]
            named = [{**f, "uploadMode": "regular", "shouldIgnore": False} for f in files]
            answer = {"files": named}
        else:
            for line in body.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    value = entry["value"]
                    self.server.files[value["path"]] = base64.b64decode(value["content"])
            url = f"{self._home()}/someone/inquiries/commit/abc"
            answer = {"commitUrl": url, "commitOid": "abc", "pullRequestUrl": None}
        self._answer(answer)

    def do_GET(self) -> None:
        self._answer({})

    def _home(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def _answer(self, value: dict[str, Any]) -> None:
        content = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


def test_a_classifier_is_uploaded_by_the_client_of_the_hub(
    classifier: Classifier, tmp_path: Path
) -> None:
    from transformers import pipeline

    classifier.save(tmp_path / "model")
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    server.files = {}
    threading.Thread(target=server.serve_forever, daemon=True).start()
    program = (
        "import sys; from japagen import Classifier;"
        "print(Classifier.load(sys.argv[1]).push_to_hub('someone/inquiries', token='hf_x'))"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / "model")],
            env={
                **os.environ,
                "HF_ENDPOINT": f"http://127.0.0.1:{server.server_address[1]}",
                "HF_HUB_OFFLINE": "0",
                "HF_HUB_DISABLE_XET": "1",
            },
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        server.shutdown()
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("/someone/inquiries/commit/abc")
    folder = tmp_path / "uploaded"
    folder.mkdir()
    for name, content in server.files.items():
        (folder / name).write_bytes(content)
    texts = ["返品したい"]
    expected = classifier.probabilities(texts)[0]
    assert Classifier.from_pretrained(folder).probabilities(texts)[0] == pytest.approx(expected)
    found = pipeline("text-classification", model=str(folder), top_k=None)(texts)[0]
    scores = {one["label"]: one["score"] for one in found}
    assert [scores[label] for label in classifier.labels] == pytest.approx(expected, abs=1e-4)


def test_what_notebooks_show_of_a_classifier(encoder: Encoder) -> None:
    model = untrained(
        encoder, LabelSpace("classification", ("<b>", "返品")), HEAD, is_pair=False, tunes=True
    )
    assert repr(model).startswith("<Classifier: <b>, 返品; tuned from ")
    assert "&lt;b&gt;、返品" in model._repr_html_()
    assert "<td><b>" not in model._repr_html_()
