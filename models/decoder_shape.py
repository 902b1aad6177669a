"""The shape of a decoder and the names of its parameters: what its writer must know of it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from types import MappingProxyType

from transformers import PreTrainedConfig

from ..runtime.errors import BundleError

LINEARS = MappingProxyType(
    {
        **dict.fromkeys(("q_proj", "k_proj", "v_proj", "o_proj"), "self_attn"),
        **dict.fromkeys(("gate_proj", "up_proj", "down_proj"), "mlp"),
    }
)
"""Linear layer → the part of a decoder layer that it is in."""


@dataclass(frozen=True, slots=True)
class DecoderShape:
    """A decoder of Llama's build: RMS norms, rotary positions, grouped queries, SwiGLU.

    Attributes:
        layers: how many.
        hidden: width of the residual stream.
        heads: of queries.
        kv_heads: of keys and values.
        head_dim: width of one head.
        intermediate: width inside the MLP.
        vocabulary: rows of the embedding table, and logits.
        epsilon: of the norms.
        theta: base of the rotation.
        max_positions: that it was made for.
        is_tied: the head is the embedding table.
        biases: keys of `LINEARS` that have a bias.
        has_qk_norm: each head of queries and keys is normalised before it is turned.
        sections: of mRoPE, a pair count for each of three axes; None with one axis.
        is_interleaved: the axes of mRoPE take turns instead of standing in sections.
        window: a position sees that many, itself included; None for all before it.
        deep_levels: what is added after the first layers comes in with the embeddings.
    """

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int
    epsilon: float
    theta: float
    max_positions: int
    is_tied: bool = False
    biases: frozenset[str] = frozenset()
    has_qk_norm: bool = False
    sections: tuple[int, ...] | None = None
    is_interleaved: bool = False
    window: int | None = None
    deep_levels: int = 0

    @property
    def width(self) -> int:
        """Of one row of inputs_embeds."""
        return self.hidden * (1 + self.deep_levels)

    @property
    def query_width(self) -> int:
        """Of all heads of queries."""
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """Of all heads of keys."""
        return self.kv_heads * self.head_dim

    @property
    def axes(self) -> int:
        """Numbers of a position."""
        return 1 if self.sections is None else len(self.sections)

    def parameters(self) -> dict[str, tuple[int, ...]]:
        """Canonical name → shape of every parameter, as PyTorch keeps it."""
        found: dict[str, tuple[int, ...]] = {
            "model.embed_tokens.weight": (self.vocabulary, self.hidden)
        }
        for layer in range(self.layers):
            place = f"model.layers.{layer}."
            found |= {place + name: size for name, size in self._layer().items()}
        found["model.norm.weight"] = (self.hidden,)
        if not self.is_tied:
            found["lm_head.weight"] = (self.vocabulary, self.hidden)
        return found

    def n_parameters(self) -> int:
        """How many numbers they hold."""
        sizes = (size[0] * (size[1] if len(size) > 1 else 1) for size in self.parameters().values())
        return sum(sizes)

    def linears(self) -> dict[str, tuple[int, int]]:
        """Key of `LINEARS` → (out, in)."""
        return {
            "q_proj": (self.query_width, self.hidden),
            "k_proj": (self.kv_width, self.hidden),
            "v_proj": (self.kv_width, self.hidden),
            "o_proj": (self.hidden, self.query_width),
            "gate_proj": (self.intermediate, self.hidden),
            "up_proj": (self.intermediate, self.hidden),
            "down_proj": (self.hidden, self.intermediate),
        }

    def _layer(self) -> dict[str, tuple[int, ...]]:
        found: dict[str, tuple[int, ...]] = {
            f"{which}_layernorm.weight": (self.hidden,) for which in ("input", "post_attention")
        }
        if self.has_qk_norm:
            found |= {f"self_attn.{one}_norm.weight": (self.head_dim,) for one in "qk"}
        for one, size in self.linears().items():
            found[f"{LINEARS[one]}.{one}.weight"] = size
            if one in self.biases:
                found[f"{LINEARS[one]}.{one}.bias"] = size[:1]
        return found


def decoder_shape(
    config: PreTrainedConfig, names: Collection[str], deep_levels: int = 0
) -> DecoderShape:
    """The shape of a decoder.

    Args:
        config: of its text part, as `transformers` writes it.
        names: canonical names of its parameters; the head's may be missing where it is tied.
        deep_levels: see `DecoderShape`.

    Raises:
        BundleError: it has a part that the writer does not know.
    """
    rotation = config.rope_parameters
    sections = rotation.get("mrope_section")
    first = "model.layers.0"
    shape = DecoderShape(
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        head_dim=getattr(config, "head_dim", None)
        or config.hidden_size // config.num_attention_heads,
        intermediate=config.intermediate_size,
        vocabulary=config.vocab_size,
        epsilon=config.rms_norm_eps,
        theta=float(rotation["rope_theta"]),
        max_positions=config.max_position_embeddings,
        is_tied=bool(config.tie_word_embeddings),
        biases=frozenset(
            one for one, part in LINEARS.items() if f"{first}.{part}.{one}.bias" in names
        ),
        has_qk_norm=f"{first}.self_attn.q_norm.weight" in names,
        sections=tuple(sections) if sections else None,
        is_interleaved=bool(rotation.get("mrope_interleaved", False)),
        window=_window(config),
        deep_levels=deep_levels,
    )
    _check(config, shape, names)
    return shape


def _window(config: PreTrainedConfig) -> int | None:
    """How far a position sees; layers that differ in it are refused."""
    window = getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or ())
    if kinds == {"full_attention"} or not window:
        return None
    if len(kinds) > 1:
        raise BundleError(
            f"the decoder's layers differ in how far they see ({', '.join(sorted(kinds))}), "
            "expected one kind",
            hint="such a decoder cannot be exported yet",
        )
    return int(window)


def _check(config: PreTrainedConfig, shape: DecoderShape, names: Collection[str]) -> None:
    kind = config.rope_parameters.get("rope_type", "default")
    share = config.rope_parameters.get("partial_rotary_factor", 1.0)
    if kind != "default" or share != 1.0:
        raise BundleError(
            f"the decoder turns {share:g} of each head with rope_type {kind!r}, expected all of it "
            "with 'default'",
            hint="scaled rotations (Llama 3.1 and later) cannot be exported yet",
        )
    if config.hidden_act != "silu":
        raise BundleError(
            f"the decoder's activation is {config.hidden_act!r}, expected 'silu'",
            hint="such a decoder cannot be exported yet",
        )
    if shape.sections is not None and sum(shape.sections) * 2 != shape.head_dim:
        raise BundleError(
            f"the mRoPE sections {list(shape.sections)} do not add up to half of a head of "
            f"{shape.head_dim}"
        )
    unknown = sorted(set(names) - {*shape.parameters(), "lm_head.weight"})
    missing = sorted({*shape.parameters()} - set(names))
    if unknown or missing:
        what = f"has the parameter {unknown[0]}" if unknown else f"lacks {missing[0]}"
        raise BundleError(
            f"the decoder {what}, which one of this build would not",
            hint="only decoders of Llama, Mistral, Qwen2 and Qwen3 type can be exported",
        )
