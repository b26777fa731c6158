"""Where encoder weights come from: the embedded model, a directory, or the Hugging Face Hub."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

import japagen.cache
from japagen.cache import build_once
from japagen.errors import JapagenError
from japagen.files import read_json
from japagen.training import e5_embedded

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

EMBEDDED = "embedded"

_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
# What a checkpoint is made of; a Hub repository often holds other formats beside it.
_CHECKPOINT_FILES = ("*.json", "*.safetensors", "*.txt", "*.model")
_OTHER_FORMATS = ("onnx/*", "openvino/*", "coreml/*")
_CODE_FILES = ("*.py",)
_OTHER_WEIGHTS = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack", "*.onnx", "*.gguf")
# RoBERTa counts positions from the padding id on.
_OFFSET_POSITIONS = frozenset({"roberta", "xlm-roberta", "camembert", "xlm-roberta-xl", "mpnet"})
_DEFAULT_MAX_LENGTH = 512
# Some tokenizers state 10^30 for "no limit".
_NO_LIMIT = 1_000_000
_BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})


@dataclass(frozen=True)
class Encoder:
    """A bare encoder, ready to embed texts or to be fine-tuned.

    Attributes:
        model: The encoder without a head, in float32 and evaluation mode.
        tokenizer: Its tokenizer; it returns exactly the inputs that the model takes.
        identity: Changes when the weights or the vocabulary do; for fingerprints.
        pooling: How token vectors become a text's vector.
        prefix: What the model wants before every text.
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
        MissingExtraError: If the embedded model is asked for and not installed.
        JapagenError: If there is no such checkpoint, it cannot be reached, it has no
            safetensors weights, or its tokenizer needs a package that is not installed.
    """
    if trust_remote_code:
        warnings.warn(
            f"The Python code that comes with {name} is trusted: it runs with your rights.",
            stacklevel=2,
        )
    identity = encoder_identity(name)
    directory = _checkpoint_directory(name, identity, cache_dir, trust_remote_code)
    _require_safetensors(name, directory)
    with _quiet_transformers(), _loading_errors(name):
        model = _load_model(name, directory, trust_remote_code)
        tokenizer = _load_tokenizer(directory, trust_remote_code)
    accepted = inspect.signature(model.forward).parameters
    tokenizer.model_input_names = [k for k in tokenizer.model_input_names if k in accepted]
    return Encoder(
        model=model,
        tokenizer=tokenizer,
        identity=identity,
        pooling=_declared_pooling(directory),
        prefix=e5_embedded.PREFIX if name == EMBEDDED else text_prefix(name),
        max_length=_max_length(model.config, tokenizer),
    )


def encoder_identity(name: str) -> str:
    """Returns what `Encoder.identity` will be, without loading weights.

    A directory's files are hashed. For a Hub name the commit is looked up in the Hub's local
    cache and, failing that, on the Hub.

    Raises:
        JapagenError: If there is no such directory, or the Hub cannot be reached.
    """
    if name == EMBEDDED:
        weights = e5_embedded.WEIGHTS_SHA256[:16]
        return f"embedded:{weights}:v{e5_embedded.CONVERSION_VERSION}"
    path = _local_directory(name)
    if path is not None:
        return f"path:{_files_hash(path)}"
    return f"hub:{name}@{_hub_commit(name)}"


def text_prefix(name: str) -> str:
    """Returns what a model family wants before every text, judged by the checkpoint's name.

    For tasks other than retrieval the authors of E5 (arXiv 2402.05672) advise ``query: ``;
    Ruri up to v2 (arXiv 2409.07737) has ``クエリ: `` in its place, and Ruri v3 asks for nothing.
    """
    family = Path(name).name.lower()
    if re.search(r"(^|[-_])e5([-_]|$)", family) and "instruct" not in family:
        return e5_embedded.PREFIX
    if re.search(r"(^|[-_])ruri([-_]|$)", family) and "v3" not in family:
        return "クエリ: "
    return ""


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
    lengths = [len(ids) for ids in rows["input_ids"]]
    order = sorted(range(len(texts)), key=lambda i: lengths[i])
    encoder.model.eval()
    with torch.inference_mode(), _quiet_transformers():
        for start in range(0, len(order), batch_size):
            index = order[start : start + batch_size]
            batch = {key: [rows[key][i] for i in index] for key in rows}
            inputs = encoder.tokenizer.pad(batch, return_tensors="pt")
            states = encoder.model(**inputs).last_hidden_state
            pooled = _pool(states, inputs["attention_mask"], encoder.pooling)
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


def _pool(
    states: torch.Tensor, mask: torch.Tensor, pooling: Literal["mean", "cls"]
) -> torch.Tensor:
    if pooling == "cls":
        return states[:, 0]
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(dim=1) / weights.sum(dim=1)


def _checkpoint_directory(
    name: str, identity: str, cache_dir: Path | None, trust_remote_code: bool
) -> Path:
    if name == EMBEDDED:
        parent = cache_dir or japagen.cache.cache_dir("encoders")
        folder = f"multilingual-e5-small-ja-{identity.removeprefix('embedded:').replace(':', '-')}"
        return build_once(parent / folder, _convert_embedded)
    return _local_directory(name) or _hub_snapshot(name, identity, trust_remote_code)


def _convert_embedded(directory: Path) -> None:
    weights = e5_embedded.read_weights(e5_embedded.find_weights())
    e5_embedded.save_checkpoint(weights, e5_embedded.japanese_rows(weights), directory)


def _local_directory(name: str) -> Path | None:
    """Returns the directory that ``name`` is, or None where it can only be a Hub name."""
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if path.exists() or not _HUB_NAME.fullmatch(name) or name.startswith("."):
        raise JapagenError(
            f"Expected an encoder, found no directory '{name}', and no Hub name is written so.",
            "Give 'embedded', the directory of a checkpoint, or a Hub name like 'owner/model'.",
        )
    return None


def _files_hash(directory: Path) -> str:
    """Hashes the names and bytes of the files that decide what the encoder computes."""
    digest = hashlib.sha256()
    patterns = _CHECKPOINT_FILES + _CODE_FILES
    for path in sorted({p for pattern in patterns for p in directory.glob(pattern)}):
        digest.update(path.name.encode() + b"\0")
        with path.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:16]


def _hub_commit(name: str) -> str:
    """Returns the commit of the cached copy, or the Hub's latest."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    found = try_to_load_from_cache(name, "config.json")
    if not isinstance(found, str):
        with _hub_errors(name):
            found = hf_hub_download(name, "config.json")
    return Path(found).parent.name


def _hub_snapshot(name: str, identity: str, trust_remote_code: bool) -> Path:
    from huggingface_hub import snapshot_download

    patterns = _CHECKPOINT_FILES + (_CODE_FILES if trust_remote_code else ())
    with _hub_errors(name):
        return Path(
            snapshot_download(
                name,
                revision=identity.rpartition("@")[2],
                allow_patterns=list(patterns),
                ignore_patterns=list(_OTHER_FORMATS),
            )
        )


@contextlib.contextmanager
def _hub_errors(name: str) -> Iterator[None]:
    from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError

    try:
        yield
    except RepositoryNotFoundError as error:
        raise JapagenError(
            f"Expected the encoder '{name}' on the Hugging Face Hub, found no model of that name, "
            "or one that asks for a login.",
            "Check the spelling, or log in with: hf auth login",
        ) from error
    except OSError as error:
        if isinstance(error, EntryNotFoundError) and not _is_unreachable(error):
            raise JapagenError(
                f"Expected a model in the Hub repository '{name}', found no config.json.",
                "Give the name of a transformers model.",
            ) from error
        raise JapagenError(
            f"The encoder '{name}' is neither a directory nor in the Hub's local cache, and the "
            "Hugging Face Hub cannot be reached.",
            "Give the directory of a checkpoint, or use the encoder 'embedded'.",
        ) from error


def _is_unreachable(error: OSError) -> bool:
    from huggingface_hub.errors import LocalEntryNotFoundError

    return isinstance(error, LocalEntryNotFoundError)


def _require_safetensors(name: str, directory: Path) -> None:
    if any(directory.glob("*.safetensors")):
        return
    patterns = (*_OTHER_WEIGHTS, *_CHECKPOINT_FILES)
    found = sorted(path.name for pattern in patterns for path in directory.glob(pattern))
    raise JapagenError(
        f"Expected weights as *.safetensors in {name}, "
        f"found {', '.join(found) if found else 'no checkpoint'}.",
        "Other formats can run code when they are opened. Convert it where you trust it: load it "
        "with transformers and call save_pretrained(directory).",
    )


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Keeps load reports and progress bars off standard error."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


@contextlib.contextmanager
def _loading_errors(name: str) -> Iterator[None]:
    """Turns what transformers raises for a checkpoint it cannot load into our error."""
    try:
        yield
    except ImportError as error:
        # transformers raises its own sentence in place of the import that failed.
        cause = error if error.name else error.__context__
        package = getattr(cause, "name", None)
        raise JapagenError(
            f"Loading the encoder '{name}' needs "
            + (f"the package '{package}', which is not installed." if package else str(error)),
            f"Install it with: pip install {package.replace('_', '-')}" if package else "",
        ) from error
    except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
        raise JapagenError(
            f"Expected a checkpoint that transformers can load in {name}, "
            f"found a problem: {str(error).strip() or repr(error)}",
            "If it comes with Python code that you trust, set trust_remote_code.",
        ) from error


def _load_model(name: str, directory: Path, trust_remote_code: bool) -> PreTrainedModel:
    from transformers import AutoModel

    model, info = AutoModel.from_pretrained(
        directory,
        use_safetensors=True,
        trust_remote_code=trust_remote_code,
        output_loading_info=True,
    )
    missing = sorted(k for k in info["missing_keys"] if not k.startswith("pooler."))
    if missing:
        raise JapagenError(
            f"Expected the weights of a {type(model).__name__} in {name}, found none for "
            f"{', '.join(missing[:3])}{' and others' if len(missing) > 3 else ''}.",
            "The checkpoint is damaged, or its config.json belongs to another model.",
        )
    if info["missing_keys"]:
        model.pooler = None  # it would be random, and pooling does not use it
    return model.float().eval()


def _load_tokenizer(directory: Path, trust_remote_code: bool) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(directory, trust_remote_code=trust_remote_code)


def _declared_pooling(directory: Path) -> Literal["mean", "cls"]:
    """Returns what the checkpoint says in the manner of sentence-transformers; else the mean."""
    declared = directory / "1_Pooling" / "config.json"
    if declared.is_file() and read_json(declared).get("pooling_mode_cls_token"):
        return "cls"
    return "mean"


def _max_length(config: Any, tokenizer: PreTrainedTokenizerBase) -> int:
    """Returns the smaller of what the positions and the tokenizer allow."""
    limits = []
    positions = getattr(config, "max_position_embeddings", None)
    if positions:
        offset = config.pad_token_id + 1 if config.model_type in _OFFSET_POSITIONS else 0
        limits.append(positions - offset)
    if tokenizer.model_max_length < _NO_LIMIT:
        limits.append(tokenizer.model_max_length)
    return min(limits, default=_DEFAULT_MAX_LENGTH)
