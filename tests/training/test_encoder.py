from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertJapaneseTokenizer,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    ModernBertConfig,
    ModernBertModel,
)

from japagen.errors import JapagenError
from japagen.training.encoder import (
    _has_bf16_flag,
    by_length,
    embed,
    encoder_identity,
    load_encoder,
    max_input_length,
    supports_bf16,
    text_prefix,
)

TEXTS = [
    "部屋がきれいで、スタッフも親切でした。",
    "悪い",
    "朝食の種類が少なく、料金の割に満足できなかったので、もう泊まりません。",
    "",
    "駅から近い。",
]
SMALL: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def save_mecab_tokenizer(directory: Path, subwords: str = "wordpiece") -> int:
    """Writes the tokenizer of the Tohoku BERTs over a small vocabulary; returns its size."""
    characters = sorted(set("".join(TEXTS)))
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters]
    if subwords == "wordpiece":
        pieces += [f"##{c}" for c in characters] + ["部屋", "きれい", "スタッフ"]
    directory.mkdir(parents=True, exist_ok=True)
    vocabulary = directory / "vocab.txt"
    vocabulary.write_text("\n".join(pieces) + "\n", encoding="utf-8")
    BertJapaneseTokenizer(
        str(vocabulary),
        word_tokenizer_type="mecab",
        subword_tokenizer_type=subwords,
        mecab_kwargs={"mecab_dic": "unidic_lite"},
        model_max_length=512,
    ).save_pretrained(directory)
    return len(pieces)


def save_bert(directory: Path, subwords: str = "wordpiece", pooler: bool = True) -> Path:
    torch.manual_seed(0)
    size = save_mecab_tokenizer(directory, subwords)
    config = BertConfig(vocab_size=size, intermediate_size=64, max_position_embeddings=64, **SMALL)
    BertModel(config, add_pooling_layer=pooler).save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bert(tmp_path_factory.mktemp("bert"))


def test_bert_with_mecab_words(bert: Path) -> None:
    encoder = load_encoder(str(bert))
    assert isinstance(encoder.model, BertModel)
    assert not encoder.model.training
    assert {p.dtype for p in encoder.model.parameters()} == {torch.float32}
    assert encoder.tokenizer.tokenize("部屋がきれい")[0] == "部屋"
    assert (encoder.pooling, encoder.prefix, encoder.max_length) == ("mean", "", 64)
    assert encoder.identity == encoder_identity(str(bert))
    pair = encoder.tokenizer("部屋", "駅")
    assert pair["token_type_ids"] == [0, 0, 0, 1, 1]


def test_bert_with_characters(tmp_path: Path) -> None:
    encoder = load_encoder(str(save_bert(tmp_path, "character")))
    assert encoder.tokenizer.tokenize("部屋が") == ["部", "屋", "が"]
    assert embed(encoder, TEXTS).shape == (5, 32)


def test_distilbert_takes_no_token_types(tmp_path: Path) -> None:
    size = save_mecab_tokenizer(tmp_path)
    config = DistilBertConfig(vocab_size=size, dim=32, n_layers=2, n_heads=2, hidden_dim=64)
    DistilBertModel(config).save_pretrained(tmp_path)
    encoder = load_encoder(str(tmp_path))
    assert "token_type_ids" not in encoder.tokenizer("部屋", "駅")
    assert embed(encoder, TEXTS, TEXTS[::-1]).shape == (5, 32)
    encoder.tokenizer.save_pretrained(tmp_path / "copy")
    assert "token_type_ids" not in AutoTokenizer.from_pretrained(tmp_path / "copy")("部屋", "駅")


def test_modernbert(tmp_path: Path, tiny_encoder: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_encoder)
    tokenizer.save_pretrained(tmp_path)
    ids = {f"{k}_token_id": 0 for k in ("pad", "bos", "eos", "cls", "sep")}
    config = ModernBertConfig(
        vocab_size=len(tokenizer), intermediate_size=64, max_position_embeddings=256, **SMALL, **ids
    )
    ModernBertModel(config).save_pretrained(tmp_path)
    encoder = load_encoder(str(tmp_path))
    assert isinstance(encoder.model, ModernBertModel)
    assert encoder.max_length == 256
    assert embed(encoder, TEXTS).shape == (5, 32)


def test_embeddings_do_not_depend_on_the_batch(bert: Path) -> None:
    encoder = load_encoder(str(bert))
    together = embed(encoder, TEXTS, batch_size=2)
    alone = np.concatenate([embed(encoder, [text]) for text in TEXTS])
    assert together.dtype == np.float32
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    assert np.array_equal(together, embed(encoder, TEXTS, batch_size=2))
    # The texts differ, so a wrong order would show.
    assert np.abs(together - together[::-1]).max() > 0.01


def test_batches_hold_like_lengths_and_a_bounded_number_of_tokens() -> None:
    lengths = [9, 2, 30, 2, 8, 2, 3]
    assert by_length(lengths, 3) == [[1, 3, 5], [6, 4, 0], [2]]
    assert by_length(lengths, 3, tokens=16) == [[1, 3, 5], [6, 4], [0], [2]]
    assert by_length([], 3, tokens=16) == []


def test_embed_after_training_has_no_dropout(bert: Path) -> None:
    encoder = load_encoder(str(bert))
    before = embed(encoder, TEXTS)
    encoder.model.train()
    assert np.array_equal(before, embed(encoder, TEXTS))


def test_mean_pooling_leaves_padding_out(bert: Path) -> None:
    encoder = load_encoder(str(bert))
    inputs = encoder.tokenizer(TEXTS[:1], return_tensors="pt")
    with torch.no_grad():
        mean = encoder.model(**inputs).last_hidden_state[0].mean(dim=0).numpy()
    # Next to a longer text the first one is padded.
    found = embed(encoder, [TEXTS[0], TEXTS[2]])[0]
    np.testing.assert_allclose(found, mean / np.linalg.norm(mean), atol=1e-5)


def test_embed_of_nothing_and_of_too_much(bert: Path) -> None:
    encoder = load_encoder(str(bert))
    assert embed(encoder, []).shape == (0, 32)
    assert embed(encoder, []).dtype == np.float32
    long = embed(encoder, ["部屋" * 1000])
    assert np.isfinite(long).all()


def test_pairs_are_read_together(bert: Path) -> None:
    encoder = load_encoder(str(bert))
    pairs = embed(encoder, ["部屋", "部屋"], ["駅", "朝食"])
    assert np.abs(pairs[0] - pairs[1]).max() > 1e-3


def test_declared_cls_pooling_is_used(tmp_path: Path) -> None:
    save_bert(tmp_path)
    mean = load_encoder(str(tmp_path))
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    cls = load_encoder(str(tmp_path))
    assert (mean.pooling, cls.pooling) == ("mean", "cls")
    assert mean.identity != cls.identity
    with torch.no_grad():
        first = cls.model(**cls.tokenizer("駅", return_tensors="pt")).last_hidden_state[0, 0]
    np.testing.assert_allclose(embed(cls, ["駅"])[0], (first / first.norm()).numpy(), atol=1e-5)


def test_loading_is_silent_even_without_a_pooler(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    save_bert(tmp_path, pooler=False)
    capfd.readouterr()
    encoder = load_encoder(str(tmp_path))
    embed(encoder, TEXTS)
    assert capfd.readouterr() == ("", "")
    assert encoder.model.pooler is None


def test_identity_follows_the_content_of_a_directory(tmp_path: Path) -> None:
    first, second = save_bert(tmp_path / "a"), save_bert(tmp_path / "b")
    identity = encoder_identity(str(first))
    assert re.fullmatch(r"path:[0-9a-f]{16}", identity)
    assert encoder_identity(str(second)) == identity
    (second / "README.md").write_text("a note")
    assert encoder_identity(str(second)) == identity
    (second / "vocab.txt").write_text("other")
    assert encoder_identity(str(second)) != identity


def test_identity_needs_no_torch() -> None:
    import subprocess

    code = (
        "import sys; from japagen.training.encoder import encoder_identity;"
        "print(encoder_identity('embedded'), 'torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"embedded:[0-9a-f]{16}:v\d+ False\n", ran.stdout)


def test_only_safetensors_are_opened(bert: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((bert / "config.json").read_bytes())
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(JapagenError, match=r"as \*\.safetensors .* found pytorch_model\.bin"):
        load_encoder(str(tmp_path))


def test_a_directory_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JapagenError, match="found no weights"):
        load_encoder(str(tmp_path))


@pytest.mark.parametrize("name", ["./absent", "/absent/model", "a/b/c", "", "日本語"])
def test_what_can_be_no_hub_name_is_refused(name: str) -> None:
    with pytest.raises(JapagenError, match="found no directory"):
        load_encoder(name)


def test_missing_weights_are_not_made_up(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = save_bert(tmp_path) / "model.safetensors"
    tensors = load_file(path)
    del tensors["encoder.layer.1.output.dense.weight"]
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(JapagenError, match=r"found none for encoder\.layer\.1\.output"):
        load_encoder(str(tmp_path))


@pytest.mark.parametrize("damage", ["truncated", "mismatch", "unknown model"])
def test_a_damaged_checkpoint_is_the_users_error(damage: str, tmp_path: Path) -> None:
    save_bert(tmp_path)
    config, weights = tmp_path / "config.json", tmp_path / "model.safetensors"
    if damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif damage == "mismatch":
        config.write_text(config.read_text().replace('"vocab_size": ', '"vocab_size": 1'))
    else:
        config.write_text(config.read_text().replace('"bert"', '"no-such-model"'))
    with pytest.raises(JapagenError, match="Expected a checkpoint that transformers can load"):
        load_encoder(str(tmp_path))


@pytest.mark.parametrize("package", ["fugashi", "unidic_lite"])
def test_a_missing_tokenizer_package_is_named(
    package: str, bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(JapagenError, match=f"needs the package '{package}'") as caught:
        load_encoder(str(bert))
    assert caught.value.hint == f"Install it with: pip install {package.replace('_', '-')}"


def test_remote_code_is_refused_unless_asked_for(tmp_path: Path) -> None:
    save_bert(tmp_path)
    config = tmp_path / "config.json"
    config.write_text(
        config.read_text()
        .replace('"bert"', '"own-bert"')
        .replace("{", '{"auto_map": {"AutoConfig": "own.C", "AutoModel": "own.M"},', 1)
    )
    (tmp_path / "own.py").write_text(
        "from transformers import BertConfig, BertModel\n"
        "class C(BertConfig):\n    model_type = 'own-bert'\n"
        "class M(BertModel):\n    config_class = C\n"
    )
    with pytest.raises(JapagenError) as caught:
        load_encoder(str(tmp_path))
    assert "trust_remote_code" in caught.value.hint
    with pytest.warns(UserWarning, match="it runs with your rights"):
        encoder = load_encoder(str(tmp_path), trust_remote_code=True)
    assert type(encoder.model).__name__ == "M"


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        ("intfloat/multilingual-e5-small", "query: "),
        ("/models/multilingual-e5-base/", "query: "),
        ("intfloat/multilingual-e5-large-instruct", ""),
        ("cl-nagoya/ruri-base-v2", "クエリ: "),
        ("cl-nagoya/ruri-v3-30m", ""),
        ("tohoku-nlp/bert-base-japanese-v3", ""),
        ("line-corporation/line-distilbert-base-japanese", ""),
    ],
)
def test_prefix_by_family(name: str, prefix: str) -> None:
    assert text_prefix(name) == prefix


def test_roberta_positions_start_after_padding(bert: Path) -> None:
    from transformers import XLMRobertaConfig

    tokenizer = AutoTokenizer.from_pretrained(bert)
    config = XLMRobertaConfig(max_position_embeddings=514, pad_token_id=1)
    assert max_input_length(config, tokenizer) == 512


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        ("processor : 0\nflags\t\t: fpu avx512f avx512_bf16\n", True),
        ("flags\t\t: fpu amx_bf16 amx_tile\n", True),
        ("Features\t: fp asimd bf16\n", True),
        ("flags\t\t: fpu avx2 avx512f\n", False),
        ("", False),
    ],
)
def test_bf16_is_read_from_the_flags(cpuinfo: str, expected: bool) -> None:
    assert _has_bf16_flag(cpuinfo) is expected


def test_bf16_agrees_with_torch_on_x86() -> None:
    probe = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    if probe is None or not sys.platform.startswith("linux"):
        pytest.skip("this torch or system says nothing about bfloat16")
    # AMX machines have AVX-512 bfloat16 too.
    assert supports_bf16() == probe()
