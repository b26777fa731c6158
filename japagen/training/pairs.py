"""Compares two texts that a frozen encoder encodes separately (a bi-encoder).

An encoder of single texts that reads a pair as one input does not compare the two, and a few
dozen pairs do not teach it to. Untrained, it does know which words of one text have a counterpart
in the other: each token is matched with all tokens of the other text, in the states of several
layers (the greedy matching of BERTScore, Zhang et al. 2020). A linear layer decides on these
features. Tokens of the second text without a counterpart, for example, are evidence against
entailment by the first.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from transformers.modeling_outputs import SequenceClassifierOutput

from japagen.training.encoder import Encoder, pool

HEAD_FILE = "pair_head.safetensors"
# Parts of the encoder's depth whose states are compared; 0 is what goes into the first layer.
_DEPTHS = (0.0, 1 / 3, 1 / 2, 2 / 3, 5 / 6, 1.0)
_LEAST_MATCHED = 3
_A_LAYER = 6
_OF_ALL = 3
_FAR = 2.0


class PairModel(nn.Module):
    """A frozen encoder, a comparison of two texts, and a linear layer.

    It takes the place of a sequence classification model in `Classifier`. The rows of its input
    are all first texts and then, in the same order, all second ones; it gives one row of logits
    a pair.

    Args:
        encoder: A bare ``transformers`` encoder. It is kept, not copied, and not changed.
        pooling: How token vectors become a text's vector.
        outputs: Numbers to give for a pair.
    """

    is_bi_encoder = True

    def __init__(self, encoder: Any, pooling: Literal["mean", "cls"], outputs: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.pooling = pooling
        self.config = type(encoder.config).from_dict(encoder.config.to_dict())
        self.config.num_labels = outputs
        layers = encoder.config.num_hidden_layers
        self.layers = sorted({round(layers * depth) for depth in _DEPTHS})
        self.classifier = nn.Linear(_OF_ALL + _A_LAYER * len(self.layers), outputs)

    @classmethod
    def over(cls, encoder: Encoder, outputs: int) -> PairModel:
        """A model with an untrained linear layer."""
        return cls(encoder.model, encoder.pooling, outputs)

    def forward(self, **inputs: torch.Tensor) -> SequenceClassifierOutput:
        """Returns logits, shape (n, outputs), of 2n rows: n first texts, then n second ones."""
        return SequenceClassifierOutput(logits=self.classifier(self.compare(**inputs)))

    def compare(self, **inputs: torch.Tensor) -> torch.Tensor:
        """The features of each pair, shape (n, features).

        The cosine of both texts' vectors, the logarithm of the ratio of their lengths and its
        absolute value; and for each layer, of the first text and of the second: the mean, the
        least, and the mean of the three least, over its tokens, of the largest cosine with a
        token of the other.
        """
        seen = self.encoder(**inputs, output_hidden_states=True)
        mask = inputs["attention_mask"]
        vectors = nn.functional.normalize(pool(seen.last_hidden_state, mask, self.pooling), dim=1)
        first, second = vectors.chunk(2)
        one, other = mask.sum(dim=1).float().log().chunk(2)
        found = [(first * second).sum(dim=1), other - one, (other - one).abs()]
        masks = mask.bool().chunk(2)
        for layer in self.layers:
            states = nn.functional.normalize(seen.hidden_states[layer], dim=2)
            found += _matched(*states.chunk(2), *masks)
        return torch.stack(found, dim=1)

    def save_pretrained(self, path: str | Path) -> None:
        """Writes the encoder as an ordinary checkpoint, and the linear layer next to it."""
        from safetensors.torch import save_file

        self.encoder.save_pretrained(path)
        save_file(self.classifier.state_dict(), Path(path) / HEAD_FILE)

    @classmethod
    def from_pretrained(cls, path: Path, pooling: Literal["mean", "cls"]) -> PairModel:
        """Reads what `save_pretrained` wrote."""
        from safetensors.torch import load_file
        from transformers import AutoModel

        head = load_file(path / HEAD_FILE)
        encoder = AutoModel.from_pretrained(path, use_safetensors=True, trust_remote_code=False)
        model = cls(encoder, pooling, len(head["bias"]))
        model.classifier.load_state_dict(head)
        return model


def _matched(
    first: torch.Tensor, second: torch.Tensor, mask: torch.Tensor, other_mask: torch.Tensor
) -> list[torch.Tensor]:
    """Matching scores of the tokens of each text with the other's: six numbers per pair."""
    cosines = first @ second.transpose(1, 2)
    there = mask[:, :, None] & other_mask[:, None, :]
    cosines = cosines.masked_fill(~there, -_FAR)
    found = []
    for best, known in ((cosines.amax(dim=2), mask), (cosines.amax(dim=1), other_mask)):
        mean = (best * known).sum(dim=1) / known.sum(dim=1)
        least = best.masked_fill(~known, _FAR).topk(
            min(_LEAST_MATCHED, best.shape[1]), largest=False
        )
        count = known.sum(dim=1).clamp(max=_LEAST_MATCHED)
        few = (least.values * (least.values < _FAR)).sum(dim=1) / count
        found += [mean, least.values[:, 0], few]
    return found
