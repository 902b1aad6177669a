"""Linear layers that compute with their weights as an export will round them, adapters merged.

The rounding of a sum is not the sum of what was rounded: an adapter that is trained over exact
weights and then exported moves what a base said only just. Here every step sees what will run.

Source: weights fake-quantized in training (Jacob et al., arXiv 1712.05877), gradients straight
through the rounding (Bengio et al., arXiv 1308.3432); differs: those of the adapter alone.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad

from ..models.adapters import untie_
from ..models.peft_library import peft_library
from ..quant.schemes import PART_NAMES, Scheme, scheme_named
from ..runtime.errors import SettingsInvalid

Layers: TypeAlias = dict[type[nn.Module], type[nn.Module]]


def rounding_named(name: str) -> Scheme:
    """The scheme of a decoder that can be seen in training, by a name such as `int4`.

    Raises:
        SchemeUnknown: no decoder has it.
        SettingsInvalid: its codes are not the nearest ones, or it has no blocks.
    """
    scheme = scheme_named(name, "decoder")
    if scheme.weights in ("int4", "int8") and scheme.block and scheme.method == "nearest":
        return scheme
    possible = sorted(
        one for one, of in PART_NAMES["decoder"].items()
        if of.startswith(("int4", "int8")) and "gptq" not in of and not one.endswith("-a32")
    )  # fmt: skip
    raise SettingsInvalid(
        f"got --round-to {name}, whose codes are not the nearest ones in blocks; expected one of "
        f"{', '.join(possible)}",
        hint="--round-to int4, and export without --llm: that is its default",
    )


def rounded(weights: Tensor, scheme: Scheme) -> Tensor:
    """What the engine multiplies with: `quant.numerics.fake_quantized`, bit for bit, on any device.

    Args:
        weights: (out, in) float32.
        scheme: as `rounding_named` gives it.

    Returns:
        (out, in) float32, without gradients.

    Cost: about .4 s for 10 million weights on one core; five times their bytes.
    """
    block, zero = scheme.block or 0, 8 if scheme.weights == "int4" else 128
    padded = pad(weights.detach(), (0, -weights.shape[1] % block))
    blocked = padded.reshape(len(weights), -1, block)
    least, most = blocked.amin(-1, keepdim=True), blocked.amax(-1, keepdim=True)
    scales = torch.where(most.abs() > least.abs(), most, least) / -zero
    inverse = torch.where(scales == 0, 0.0, 1.0 / scales)
    codes = (blocked * inverse + zero).nan_to_num_(0.0).clamp_(0, 2 * zero - 1)
    whole = codes.floor()
    whole += codes - whole >= 0.5  # to nearest, ties away from zero
    stored: Tensor = (whole - zero) * scales
    return stored.reshape(padded.shape)[:, : weights.shape[1]].contiguous()


def round_(decoder: Any, scheme: Scheme, but: tuple[str, ...] = ()) -> None:
    """Round the linear layers of a decoder, its head among them, in place; embeddings stay.

    Args:
        decoder: whose tied head is given weights of its own.
        scheme: as `rounding_named` gives it.
        but: last names of layers that stay as they are.

    Raises:
        SettingsInvalid: as `check_rounding` says.
    """
    check_rounding(decoder, scheme)
    untie_(decoder)
    for name, layer in decoder.named_modules():
        if isinstance(layer, nn.Linear) and name.rpartition(".")[2] not in but:
            layer.weight = nn.Parameter(rounded(layer.weight, scheme), requires_grad=False)


def check_rounding(decoder: nn.Module, scheme: Scheme) -> None:
    """Refuse a scheme that a layer is too narrow for.

    Raises:
        SettingsInvalid: names it.
    """
    block = scheme.block or 0
    for name, layer in decoder.named_modules():
        if isinstance(layer, nn.Linear) and layer.in_features < block:
            raise SettingsInvalid(
                f"got --round-to {scheme.name}, but {name} has rows of {layer.in_features} weights "
                f"and a block {block}",
                hint="try int4-32, or leave --round-to out",
            )


def rounded_layers(scheme: Scheme) -> Layers:
    """For PEFT: which of its layers stands in for a linear layer, to compute with what is rounded.

    Names, shapes and files of the adapter are those of PEFT's own layer.
    """
    peft_library()
    from peft.tuners.lora.layer import Linear

    class RoundedLinear(Linear):
        """W and the adapter's B A, summed and rounded. State: that sum, until a weight changes."""

        _kept: tuple[tuple[int, ...], Tensor] | None = None

        def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            """(…, in) → (…, out)."""
            base: Any = self.base_layer
            said = linear(x, self._weight(), base.bias)
            if not torch.is_grad_enabled():
                return said
            # Nothing is added; gradients reach A and B by it, and x by the rounded weights alone.
            (name,) = self.active_adapters
            first, second, dropout = self._parts(name)
            added = second(first(dropout(x.detach()))) * self.scaling[name]
            straight: Tensor = said + (added - added.detach())
            return straight

        def _weight(self) -> Tensor:
            (name,) = self.active_adapters
            first, second, _ = self._parts(name)
            pair = first.weight, second.weight
            seen = (*(one._version for one in pair), *(one.data_ptr() for one in pair))
            if self._kept is None or self._kept[0] != seen:
                with torch.no_grad():
                    base: Any = self.base_layer
                    whole = base.weight + self.get_delta_weight(name)
                    self._kept = seen, rounded(whole, scheme)
            return self._kept[1]

        def _parts(self, name: str) -> tuple[Any, Any, Any]:
            return self.lora_A[name], self.lora_B[name], self.lora_dropout[name]

    return {nn.Linear: RoundedLinear}
