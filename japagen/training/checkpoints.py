"""Checkpoints of encoders, here or on the Hugging Face Hub."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from japagen.data.files import read_json
from japagen.errors import JapagenError, nearest
from japagen.transformers_loading import loading_errors, quiet_transformers, refuse_missing_weights

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
    loading = loading_errors(
        name,
        kind="a checkpoint",
        hint="Check that the files belong together, and that transformers knows this model.",
        code_hint="If you trust the Python code that comes with it, set trust_remote_code.",
    )
    with quiet_transformers(), loading:
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
    """Whether the tokenizer should say which text of a pair a token is from."""
    # A DistilBERT with the tokenizer of a BERT cannot take it; transformers 5 left it out of the
    # Japanese BERT tokenizer, whose models were trained with it.
    accepted = _SEGMENTS in inspect.signature(model.forward).parameters
    japanese_bert = type(tokenizer).__name__ == "BertJapaneseTokenizer"
    return accepted and (japanese_bert or _SEGMENTS in tokenizer.model_input_names)


# A repository often holds the same model in formats that nobody here reads.
_OTHER_FORMATS = ("onnx/*", "openvino/*", "coreml/*")


def hub_commit(name: str) -> str:
    """Returns the commit of the copy in the Hub's local cache or, failing that, the latest.

    Raises:
        JapagenError: If there is no such model, or the Hub cannot be reached.
    """
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(name, "config.json")
    if isinstance(cached, str):
        return Path(cached).parent.name
    return hub_files(name, None, ["config.json"]).name


def hub_files(name: str, commit: str | None, patterns: Sequence[str]) -> Path:
    """Returns the directory with a commit's files that match; downloads what is not cached.

    Args:
        name: The repository.
        commit: Its commit; the latest when None. The directory is named after it.
        patterns: Names of files, with wildcards.

    Raises:
        JapagenError: If there is no such model, or the Hub cannot be reached and nothing is
            cached.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        directory = snapshot_download(
            name,
            revision=commit,
            allow_patterns=list(patterns),
            ignore_patterns=list(_OTHER_FORMATS),
        )
    except RepositoryNotFoundError as error:
        raise JapagenError(
            f"Expected the model '{name}' on the Hugging Face Hub, found no model of that name, "
            f"or one that asks for a login{nearest(name, ['embedded'])}.",
            "Check the spelling, or log in with: hf auth login",
        ) from error
    except OSError as error:
        # Nothing in the cache, and no answer, a refusal, or HF_HUB_OFFLINE is set.
        raise JapagenError(
            f"The model '{name}' is neither a directory nor in the Hub's local cache, and the "
            f"Hugging Face Hub cannot be reached{nearest(name, ['embedded'])}.",
            "Give the directory of a checkpoint, or use the encoder 'embedded'.",
        ) from error
    return Path(directory)


def hub_listing(name: str, commit: str) -> list[str]:
    """Returns the names of a commit's files, for an error message; none if that fails too."""
    from huggingface_hub import HfApi

    # What a lost connection raises depends on the Hub library's version and its HTTP client.
    with contextlib.suppress(Exception):
        return HfApi().list_repo_files(name, revision=commit)
    return []
