from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from japagen.config.sections import Training
from japagen.data.dataset import Dataset, Example
from japagen.errors import JapagenError
from japagen.evaluation.drift import profile_of
from japagen.pipeline.deployment import export_classifier
from japagen.pipeline.run_directory import open_classifier
from japagen.training.trainer import train
from tests.command_line import japagen
from tests.conftest import GOLD


@pytest.fixture(scope="module")
def model(tiny_encoder: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "model"
    gold = Dataset.of(Example(t, label) for label, texts in GOLD.items() for t in texts)
    train(None, gold, encoder=tiny_encoder, settings=Training(max_length=64)).save(path)
    (path / "reference.npz").write_bytes(b"profile")
    return path


def test_the_command_exports_checks_and_predict_reads_it(model: Path, tmp_path: Path) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("\n".join(t for group in GOLD.values() for t in group), encoding="utf-8")
    code, out, err = japagen("model", "onnx", model, "--check", texts, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["path"] == str(model) + "-onnx"
    assert found["agreement"]["texts"] == 12
    assert ("Only" in err) is not found["agreement"]["enough"]
    exported = Path(found["path"])
    assert (exported / "reference.npz").read_bytes() == b"profile"

    code, out, err = japagen("model", "predict", exported, texts, "--json")
    assert code == 0, err
    rows = [json.loads(line) for line in out.splitlines()]
    expected = open_classifier(model).predict([row["text"] for row in rows])
    assert len(rows) == 12
    for row, prediction in zip(rows, expected, strict=True):
        assert row["probabilities"] == pytest.approx(prediction.probabilities, abs=0.05)


def test_without_texts_nothing_is_claimed(model: Path, tmp_path: Path) -> None:
    found = export_classifier(model, tmp_path / "o", int8=False)
    assert found.agreement is None
    assert found.to_dict()["agreement"] is None
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(JapagenError, match="Expected texts"):
        export_classifier(model, tmp_path / "p", check=tmp_path / "empty.txt")
    assert not (tmp_path / "p").exists()
    with pytest.raises(JapagenError, match="found one in ONNX"):
        export_classifier(tmp_path / "o")


def test_texts_whose_answers_are_known_are_not_classified_again(model: Path) -> None:
    classifier = open_classifier(model)
    texts = Dataset.of(Example(t) for group in GOLD.values() for t in group)
    whole = profile_of(texts, classifier).probabilities
    known = profile_of(texts, classifier, whole[:5]).probabilities
    np.testing.assert_allclose(known, whole, atol=1e-5)
    said = np.full((5, 2), 0.5)
    np.testing.assert_array_equal(profile_of(texts, classifier, said).probabilities[:5], said)
    assert len(profile_of(texts, classifier, whole).probabilities) == 12
