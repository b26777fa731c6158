"""Loads checkpoint directories, quietly, and says in plain words what is wrong with one."""

from __future__ import annotations

import functools
import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from japagen.from_transformers import (
    loading_errors,
    quiet_transformers,
    refuse_missing_weights,
)
from japagen.storage.files import read_json

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

POOLING_FILE = "1_Pooling/config.json"
"""Where sentence-transformers writes how token vectors are pooled."""

# RoBERTa counts positions from the padding id on.
_OFFSET_POSITIONS = frozenset({"roberta", "xlm-roberta", "camembert", "xlm-roberta-xl", "mpnet"})
_DEFAULT_MAX_LENGTH = 512
_SEGMENTS = "token_type_ids"
# Some tokenizers state 10^30 for "no limit".
_NO_LIMIT = 1_000_000


_loading = functools.partial(
    loading_errors,
    kind="a checkpoint",
    hint="Check that the files belong together, and that transformers knows this model.",
    code_hint="If you trust the Python code that comes with it, set trust_remote_code.",
)


def open_checkpoint(
    name: str, directory: Path, trust_remote_code: bool
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Loads a bare encoder, in float32 and evaluation mode, and its tokenizer.

    Args:
        name: What the user called it, for messages.
        directory: Holds the checkpoint, with safetensors weights.
        trust_remote_code: Whether to run Python code that comes with it.

    Raises:
        JapagenError: If it cannot be loaded, weights are missing from it, or its tokenizer
            needs a package that is not installed.
    """
    with quiet_transformers(), _loading(name):
        model = _load_model(name, directory, trust_remote_code)
        return model, _load_tokenizer(model, directory, trust_remote_code)


def declared_pooling(directory: Path) -> Literal["mean", "cls"]:
    """Returns what the checkpoint says in the manner of sentence-transformers; else the mean."""
    declared = directory / POOLING_FILE
    if declared.is_file() and read_json(declared).get("pooling_mode_cls_token"):
        return "cls"
    return "mean"


def max_input_length(config: Any, tokenizer: PreTrainedTokenizerBase) -> int:
    """Returns the smaller of what the positions and the tokenizer allow."""
    limits = []
    positions = getattr(config, "max_position_embeddings", None)
    if positions:
        offset = config.pad_token_id + 1 if config.model_type in _OFFSET_POSITIONS else 0
        limits.append(positions - offset)
    if tokenizer.model_max_length < _NO_LIMIT:
        limits.append(tokenizer.model_max_length)
    return min(limits, default=_DEFAULT_MAX_LENGTH)


def _load_model(name: str, directory: Path, trust_remote_code: bool) -> PreTrainedModel:
    from transformers import AutoModel

    model: Any
    model, info = AutoModel.from_pretrained(
        directory,
        use_safetensors=True,
        trust_remote_code=trust_remote_code,
        output_loading_info=True,
    )
    missing = sorted(k for k in info["missing_keys"] if not k.startswith("pooler."))
    refuse_missing_weights(model, name, missing)
    if info["missing_keys"]:
        model.pooler = None  # it would be random, and pooling does not use it
    encoder: PreTrainedModel = model.float().eval()
    return encoder


def _load_tokenizer(
    model: PreTrainedModel, directory: Path, trust_remote_code: bool
) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
        directory, trust_remote_code=trust_remote_code
    )
    names = [name for name in tokenizer.model_input_names if name != _SEGMENTS]
    if _wants_segments(model, tokenizer):
        names.append(_SEGMENTS)
    tokenizer.model_input_names = names
    # What save_pretrained writes, so that a fine-tuned copy reads texts in the same way.
    tokenizer.init_kwargs["model_input_names"] = names
    return tokenizer


def _wants_segments(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer should say which text of a pair a token is from.

    The tokenizer decides, save for two cases: a DistilBERT with the tokenizer of a BERT cannot
    take it, and transformers 5 left it out of the Japanese BERT tokenizer, whose models were
    trained with it.
    """
    accepted = _SEGMENTS in inspect.signature(model.forward).parameters
    japanese_bert = type(tokenizer).__name__ == "BertJapaneseTokenizer"
    return accepted and (japanese_bert or _SEGMENTS in tokenizer.model_input_names)
