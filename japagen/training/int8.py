"""Prepares an encoder for dynamic quantisation, so that 8 bits are enough for its activations.

onnxruntime rounds the input of a matrix product with one scale for a whole batch. A few channels
and a few tokens of every BERT are some hundred times larger than the rest (Bondarenko et al.
2021), and leave the rest two or three bits. So each linear layer's input is divided by

- a number a channel, sqrt(max |x_j| / max |w_j|), that its weights take over (SmoothQuant, Xiao
  et al. 2023, with a = 0.5), and
- its own maximum a token, that its output takes back.

Both are exact before rounding.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

MARK = "balanced"
"""In the name of every matrix product that should be quantised."""
_TINY = 1e-6


class _Balanced(nn.Module):
    """A linear layer that reads its input in units that 8 bits can hold."""

    def __init__(self, linear: nn.Linear, largest: torch.Tensor) -> None:
        super().__init__()
        per_input = linear.weight.abs().amax(dim=0).clamp(min=_TINY)
        scale = (largest.clamp(min=_TINY) / per_input).sqrt()
        self.shrink = nn.Parameter(1 / scale, requires_grad=False)
        self.bias = linear.bias
        product = nn.Linear(linear.in_features, linear.out_features, bias=False)
        product.weight = nn.Parameter(linear.weight * scale, requires_grad=False)
        self.add_module(MARK, product)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        inputs = inputs * self.shrink
        largest = inputs.abs().amax(dim=-1, keepdim=True) + _TINY
        outputs: torch.Tensor = self.get_submodule(MARK)(inputs / largest) * largest
        return outputs if self.bias is None else outputs + self.bias


@torch.no_grad()
def balanced(model: Any, show: Callable[[Any], object]) -> Any:
    """Returns a copy of a model that computes the same, with its layers' inputs balanced.

    Args:
        model: Of ``transformers``; heads are left as they are.
        show: Runs a given model on some texts, to see how large its activations are.
    """
    model = copy.deepcopy(model).eval()
    layers = {
        name: module
        for name, module in model.named_modules()
        # Layers stand in lists and have numbers; what is outside them is pooler and head.
        if isinstance(module, nn.Linear) and any(part.isdigit() for part in name.split("."))
    }
    largest: dict[str, torch.Tensor] = {}

    def watch(name: str) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], None]:
        def hook(_module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            found = inputs[0].abs().flatten(0, -2).amax(dim=0)
            largest[name] = torch.maximum(largest.get(name, found), found)

        return hook

    hooks = [layer.register_forward_pre_hook(watch(name)) for name, layer in layers.items()]
    show(model)
    for hook in hooks:
        hook.remove()
    for name, seen in largest.items():
        model.set_submodule(name, _Balanced(layers[name], seen))
    return model
