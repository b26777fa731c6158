"""Causal language models of real classes with a few thousand random weights."""

from __future__ import annotations

from pathlib import Path

from tests.llm.backends.tiny_model import vocabulary

TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}"
    "{% endif %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"
)


def write_checkpoint(path: Path, kind: str = "llama", template: str | None = None) -> Path:
    """Writes config, tokenizer (one piece a character) and safetensors weights."""
    import torch
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
    from transformers import (
        AutoModelForCausalLM,
        Gemma3TextConfig,
        LlamaConfig,
        PreTrainedTokenizerFast,
    )

    pieces = ["<pad>", "<unk>", "<s>", "</s>", "\n"]
    pieces += [p for p, _, _ in vocabulary() if len(p) == 1 and p != "\n"]
    ids = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 2)]
    )
    from tokenizers import decoders

    tokenizer.decoder = decoders.Fuse()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        chat_template=template,
    )
    fast.save_pretrained(path)
    sizes = {
        "vocab_size": len(ids),
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "max_position_embeddings": 128,
        "bos_token_id": 2,
        "eos_token_id": 3,
        "pad_token_id": 0,
    }
    config = Gemma3TextConfig(**sizes) if kind == "gemma3" else LlamaConfig(**sizes)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    for parameter in model.parameters():
        # Trained models are sure of some tokens; small random ones would find all alike.
        torch.nn.init.normal_(parameter, 0.0, 0.4) if parameter.dim() > 1 else None
    # Decoding defaults of a checkpoint must not get in the way.
    model.generation_config.do_sample = True
    model.generation_config.top_k = 1
    model.generation_config.temperature = 0.1
    model.save_pretrained(path)
    return path
