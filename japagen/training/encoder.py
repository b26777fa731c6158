"""Where encoder weights come from: the embedded model, a directory, or the Hugging Face Hub."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import math
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

import japagen.data.files
from japagen.data.dataset import Dataset
from japagen.data.files import build_once, read_json
from japagen.errors import JapagenError, nearest
from japagen.training import embedded_e5
from japagen.transformers_loading import (
    loading_errors,
    need_packages,
    quiet_transformers,
    refuse_missing_weights,
)

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


EMBEDDED = "embedded"

_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?", re.ASCII)
# What a checkpoint is made of.
_CHECKPOINT_FILES = ("*.json", "*.safetensors", "*.txt", "*.model")
_CODE_FILES = ("*.py",)
_OTHER_WEIGHTS = frozenset({".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx", ".gguf"})
_BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})


@dataclass(frozen=True)
class Encoder:
    """A bare encoder, ready to embed texts or to be fine-tuned.

    Attributes:
        model: The encoder without a head, in float32 and evaluation mode.
        tokenizer: Its tokenizer; it returns exactly the inputs that the model takes.
        identity: Changes when the weights or the vocabulary do; for fingerprints.
        pooling: How token vectors become a text's vector.
        prefix: Prefix that the model expects before every text.
        max_length: Longest input in tokens, special ones included.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    identity: str
    pooling: Literal["mean", "cls"]
    prefix: str
    max_length: int


def load_encoder(
    name: str, *, cache_dir: Path | None = None, trust_remote_code: bool = False
) -> Encoder:
    """Loads an encoder.

    Args:
        name: ``embedded``, a directory with a checkpoint, or a name on the Hugging Face Hub.
        cache_dir: Where the embedded model is written at its first use; japagen's cache by
            default. The Hub has a cache of its own.
        trust_remote_code: Whether to run Python code that comes with a checkpoint.

    Raises:
        MissingExtraError: If torch, or the embedded model where it is asked for, is not installed.
        JapagenError: If there is no such checkpoint, it cannot be reached, it has no
            safetensors weights, or its tokenizer needs a package that is not installed.
    """
    need_packages("An encoder", "torch", "transformers")
    if trust_remote_code and name != EMBEDDED:
        warnings.warn(
            f"The Python code that comes with {name} is trusted: it runs with your rights.",
            stacklevel=2,
        )
    identity = encoder_identity(name)
    directory = _checkpoint_directory(name, identity, cache_dir, trust_remote_code)
    _require_safetensors(name, identity, directory)
    model, tokenizer = open_checkpoint(name, directory, trust_remote_code)
    return Encoder(
        model=model,
        tokenizer=tokenizer,
        identity=identity,
        pooling=declared_pooling(directory),
        prefix=embedded_e5.PREFIX if name == EMBEDDED else text_prefix(name),
        max_length=max_input_length(model.config, tokenizer),
    )


def encoder_identity(name: str) -> str:
    """Returns what `Encoder.identity` will be, without loading weights.

    A directory's files are hashed. For a Hub name the commit is looked up in the Hub's local
    cache and, failing that, on the Hub.

    Raises:
        JapagenError: If there is no such directory, or the Hub cannot be reached.
    """
    if name == EMBEDDED:
        weights = embedded_e5.WEIGHTS_SHA256[:16]
        return f"embedded:{weights}:v{embedded_e5.CONVERSION_VERSION}"
    path = _local_directory(name)
    if path is not None:
        return f"path:{_files_hash(path)}"
    return f"hub:{name}@{hub_commit(name)}"


def check_encoder(name: str) -> str:
    """Finds out early and cheaply whether an encoder can be loaded; returns its identity.

    Raises:
        MissingExtraError: If torch, or the embedded model where it is asked for, is not installed.
        JapagenError: If there is no such checkpoint, or it has no safetensors weights.
    """
    need_packages("Training", "torch", "transformers")
    identity = encoder_identity(name)
    directory = _local_directory(name) if name != EMBEDDED else None
    if directory is not None:
        _require_safetensors(name, identity, directory)
    elif name == EMBEDDED and not _embedded_directory(identity, None).is_dir():
        embedded_e5.find_weights()
    return identity


def text_prefix(name: str) -> str:
    """Returns the prefix that a model family expects, judged by the checkpoint's name.

    For tasks other than retrieval the authors of E5 (arXiv 2402.05672) advise ``query: ``;
    Ruri up to v2 (arXiv 2409.07737) has ``クエリ: `` in its place, and Ruri v3 asks for nothing.
    """
    family = Path(name).name.lower()
    if re.search(r"(^|[-_])e5([-_]|$)", family) and "instruct" not in family:
        return embedded_e5.PREFIX
    if re.search(r"(^|[-_])ruri([-_]|$)", family) and "v3" not in family:
        return "クエリ: "
    return ""


def by_length(lengths: Sequence[int], batch_size: int, tokens: float = math.inf) -> list[list[int]]:
    """Indices in batches; those of like length go together, so that little is padding.

    Args:
        lengths: Of the texts, in tokens.
        batch_size: At most so many texts go together.
        tokens: And at most so many tokens, padding included, unless one text has more.
    """
    batches: list[list[int]] = []
    room = 0
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        if not room or (len(batches[-1]) + 1) * lengths[index] > tokens:
            batches.append([])
            room = batch_size
        batches[-1].append(index)
        room -= 1
    return batches


def embed(
    encoder: Encoder,
    texts: Sequence[str],
    text_pairs: Sequence[str] | None = None,
    *,
    batch_size: int = 32,
) -> npt.NDArray[np.float32]:
    """Embeds texts, or pairs read together.

    Args:
        encoder: The encoder; left in evaluation mode.
        texts: The texts, or the first of each pair. Longer inputs are cut.
        text_pairs: The second texts, as many as ``texts``.
        batch_size: Texts at a time; those of like length go together.

    Returns:
        float32, shape (len(texts), width of the encoder): rows of length 1, in input order.
    """
    import torch

    out = np.zeros((len(texts), encoder.model.config.hidden_size), dtype=np.float32)
    if not len(texts):
        return out
    firsts = [encoder.prefix + text for text in texts]
    seconds = None if text_pairs is None else [encoder.prefix + text for text in text_pairs]
    rows = encoder.tokenizer(firsts, seconds, truncation=True, max_length=encoder.max_length)
    encoder.model.train(False)
    with torch.inference_mode():
        for index in by_length([len(ids) for ids in rows["input_ids"]], batch_size):
            batch = {key: [rows[key][i] for i in index] for key in rows}
            inputs = encoder.tokenizer.pad(batch, return_tensors="pt")
            states = encoder.model(**inputs).last_hidden_state
            pooled = pool(states, inputs["attention_mask"], encoder.pooling)
            out[index] = torch.nn.functional.normalize(pooled, dim=1).numpy()
    return out


def supports_bf16() -> bool:
    """Whether this processor computes in bfloat16 itself; others emulate it, and are slower."""
    try:
        cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        import torch

        probe = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
        return bool(probe and probe())
    return _has_bf16_flag(cpuinfo)


def _has_bf16_flag(cpuinfo: str) -> bool:
    """Reads the first processor's flags: "flags" on x86, "Features" on ARM."""
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", cpuinfo, re.MULTILINE)
    return bool(found and _BF16_FLAGS & set(found[1].split()))


def pool(states: torch.Tensor, mask: torch.Tensor, pooling: Literal["mean", "cls"]) -> torch.Tensor:
    """Pools the states of tokens into one vector per text; shape (n, width)."""
    if pooling == "cls":
        return states[:, 0]
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(dim=1) / weights.sum(dim=1)


def _checkpoint_directory(
    name: str, identity: str, cache_dir: Path | None, trust_remote_code: bool
) -> Path:
    if name == EMBEDDED:
        return build_once(_embedded_directory(identity, cache_dir), embedded_e5.convert)
    patterns = _CHECKPOINT_FILES + (_CODE_FILES if trust_remote_code else ())
    return _local_directory(name) or hub_files(name, identity.rpartition("@")[2], patterns)


def _embedded_directory(identity: str, cache_dir: Path | None) -> Path:
    parent = cache_dir or japagen.data.files.cache_dir("encoders")
    version = identity.removeprefix("embedded:").replace(":", "-")
    return parent / f"multilingual-e5-small-ja-{version}"


def _local_directory(name: str) -> Path | None:
    """Returns the directory that ``name`` is, or None where it can only be a Hub name."""
    path = Path(name).expanduser()
    if name and path.is_dir():
        return path
    if path.exists() or not _HUB_NAME.fullmatch(name) or name.startswith("."):
        raise JapagenError(
            f"Expected an encoder, found no directory '{name}', and no Hub name is written so.",
            "Give 'embedded', the directory of a checkpoint, or a Hub name like 'owner/model'.",
        )
    return None


def _files_hash(directory: Path) -> str:
    """Hashes the names and bytes of the files that decide what a text becomes."""
    digest = hashlib.sha256(text_prefix(directory.name).encode())
    patterns = (*_CHECKPOINT_FILES, *_CODE_FILES, POOLING_FILE)
    for path in sorted({p for pattern in patterns for p in directory.glob(pattern)}):
        digest.update(path.relative_to(directory).as_posix().encode() + b"\0")
        with path.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:16]


def _require_safetensors(name: str, identity: str, directory: Path) -> None:
    if any(directory.glob("*.safetensors")):
        return
    if identity.startswith("hub:"):
        found = hub_listing(name, identity.rpartition("@")[2])
    else:
        found = [path.name for path in directory.iterdir()]
    weights = sorted(file for file in found if Path(file).suffix in _OTHER_WEIGHTS)
    raise JapagenError(
        f"Expected weights as *.safetensors in {name}, found {', '.join(weights) or 'no weights'}.",
        "Other formats can run code when they are opened. Convert it where you trust it: load it "
        "with transformers and call save_pretrained(directory)."
        if weights
        else "Give a directory that save_pretrained wrote, or the Hub name of a model.",
    )


# Cosine above which two names of a few words mean the same, with the mean of all names taken off.
# Of the 96 topics of configs/everyday/inquiry_topics no two are as near (at most .53), and 6 of 10
# paraphrases of them are nearer to theirs.
_SAME_NAME = 0.55


def same_meaning(names: Sequence[str], encoder: str = "embedded") -> npt.NDArray[np.bool_]:
    """Which of some short names mean the same, by a frozen encoder; shape (names, names).

    The mean of all is taken off, since names of one subject, and vectors of e5, are all alike.
    """
    vectors = embed(load_encoder(encoder), names)
    from sklearn.metrics.pairwise import cosine_similarity

    return np.asarray(cosine_similarity(vectors - vectors.mean(axis=0)) > _SAME_NAME)


def text_vectors(
    datasets: Sequence[Dataset | None], encoder: str | Encoder = "embedded"
) -> list[npt.NDArray[np.float32]]:
    """Embeds every text, or pair of texts, with a frozen encoder.

    Args:
        datasets: What to embed; None gives no rows, and rejected rows give zeros.
        encoder: ``embedded``, a local directory, a Hub name, or a loaded encoder.

    Returns:
        float32, shape (rows, width) for each dataset, in the order of its rows.

    Raises:
        JapagenError: If the encoder cannot be loaded.
    """
    loaded = load_encoder(encoder) if isinstance(encoder, str) else encoder
    found = []
    for dataset in datasets:
        rows = dataset if dataset is not None else Dataset.of([])
        kept = rows.kept_mask
        read = rows.where(kept)
        pairs = read.column("text_pair") if len(read) and read.is_pair else None
        vectors = embed(loaded, read.texts, pairs)
        filled = np.zeros((len(rows), vectors.shape[1]), dtype=np.float32)
        filled[kept] = vectors
        found.append(filled)
    return found


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
