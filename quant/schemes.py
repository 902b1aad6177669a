"""The ways in which a weight may be stored: named, frozen values in one visible dictionary.

A scheme says what is kept of a weight (type, weights per scale), in which type the engine
multiplies, and how far the stored weight may be from the original at worst. How the numbers are
made is in `numerics.py`, `gptq.py` and `nf4.py`; which tensor gets which scheme is in `plan.py`.

Floors are signal to noise in dB over a whole weight matrix. Measured on independent weights, the
worst of 5 seeds and of 576×576, 1536×576, 576×1536, 768×3072, 3072×768, 4864×896, 896×4864
(out × in):

    scheme      floor   Gaussian   Student-t, 4 degrees of freedom   bits a weight (576 wide)
    int8         38       41.1       30.9                               8.07
    int8-32      42       45.4       42.6                               9.00
    int8-64      40       44.5       40.8                               8.50
    int8-128     38       43.8       39.1                               9.17
    int4-32      19       21.2       18.7                               5.00
    int4-64      18       20.4       16.9                               4.50
    int4-128     17       19.7       15.3                               4.72

576 is four and a half blocks of 128; the fifth is stored whole, so there 128 is larger than 64.
The floors of 8-bit blocks are set under what Student-t weights reach, and not under the 38 dB
asked of a scale per row. The others are stricter: weights with tails as heavy as Student-t's
fail them, most of all a scale per row, where one large weight spoils its whole row.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, get_args

from ..runtime.errors import SchemeUnknown

WeightType: TypeAlias = Literal["float32", "int8", "int4", "nf4"]
ActivationType: TypeAlias = Literal["float32", "int8"]
Method: TypeAlias = Literal["nearest", "gptq", "given"]
Ranges: TypeAlias = Literal["minmax", "entropy", "percentile"]
PartName: TypeAlias = Literal["vision", "connector", "decoder"]


@dataclass(frozen=True, slots=True)
class Scheme:
    """One way of storing a weight matrix.

    Attributes:
        name: how plans, reports and people call it.
        weights: type of what is stored.
        block: weights that share a scale along a row; None: a scale per row (or none at all).
        symmetric: zero is stored exactly, at the same code for every scale.
        activations: type in which the engine multiplies; int8 is made on the fly.
        floor_db: least signal to noise of a whole matrix, dB; None where nothing is lost.
        method: how a code is chosen: the nearest one, by what the layer reads in calibration, or by
            another tool, whose graph was handed in.
        ranges: how the ranges of static int8 activations are taken from calibration data; None:
            they are measured anew in each call.
    """

    name: str
    weights: WeightType
    block: int | None = None
    symmetric: bool = True
    activations: ActivationType = "float32"
    floor_db: float | None = None
    method: Method = "nearest"
    ranges: Ranges | None = None

    def __post_init__(self) -> None:
        if self.weights not in get_args(WeightType):
            raise ValueError(f"Scheme.weights must be in {get_args(WeightType)}: {self.weights!r}")
        if self.activations not in get_args(ActivationType):
            raise ValueError(
                f"Scheme.activations must be in {get_args(ActivationType)}: {self.activations!r}"
            )
        if self.block is not None and (self.weights == "float32" or self.block < 16):
            raise ValueError(f"Scheme.block must be 16 or more, for integers: {self.block}")
        if self.weights in ("int4", "nf4") and self.block is None:
            raise ValueError("a Scheme of 4 bits needs a block: a scale per row is too coarse")
        if not self.symmetric:
            raise ValueError("a Scheme without symmetry is stored by no engine here")
        if self.method == "gptq" and self.weights != "int4":
            raise ValueError("a Scheme by GPTQ is of int4: 8 bits lose too little to choose codes")
        if self.ranges is not None and (self.weights, self.block) != ("int8", None):
            raise ValueError("a Scheme of static activations has int8 weights, a scale per row")

    @property
    def is_exact(self) -> bool:
        """Nothing is lost: the weights are stored as they were."""
        return self.weights == "float32"

    @property
    def is_calibrated(self) -> bool:
        """What is stored depends on calibration data too."""
        return self.method != "nearest" or self.ranges is not None

    def as_json(self) -> dict[str, Any]:
        """The `scheme` object of a manifest (docs/FORMATS.md, section 1).

        `method` and `ranges` are absent where they are `nearest` and null.
        """
        told: dict[str, Any] = {
            "weights": self.weights,
            "block": self.block,
            "symmetric": self.symmetric,
            "activations": self.activations,
        }
        if self.method != "nearest":
            told["method"] = self.method
        if self.ranges is not None:
            told["ranges"] = self.ranges
        return told


FP32 = Scheme("fp32", "float32")
INT8 = Scheme("int8", "int8", None, activations="int8", floor_db=38.0)
INT4_64 = Scheme("int4-64", "int4", 64, activations="int8", floor_db=18.0)

SCHEMES: Mapping[str, Scheme] = MappingProxyType(
    {
        scheme.name: scheme
        for scheme in (
            FP32,
            INT8,  # what onnxruntime's quantize_dynamic writes
            Scheme("int8-32", "int8", 32, activations="int8", floor_db=42.0),  # MatMulNBits, 8 bits
            Scheme("int8-64", "int8", 64, activations="int8", floor_db=40.0),
            Scheme("int8-128", "int8", 128, activations="int8", floor_db=38.0),
            Scheme("int4-32", "int4", 32, activations="int8", floor_db=19.0),  # MatMulNBits, 4 bits
            INT4_64,
            Scheme("int4-128", "int4", 128, activations="int8", floor_db=17.0),
            *(  # the same operator and bytes, other codes
                Scheme(f"int4-{block}-gptq", "int4", block, activations="int8",
                       floor_db=floor, method="gptq")
                for block, floor in ((32, 14.0), (64, 13.0), (128, 12.0))
            ),
            Scheme("nf4-64", "nf4", 64, floor_db=19.0),  # MatMulBnb4: slow, for comparisons
            *(  # what quantize_static writes: Q/DQ pairs with ranges from calibration
                Scheme(f"int8-static-{ranges}", "int8", None, activations="int8", floor_db=38.0,
                       ranges=ranges)
                for ranges in get_args(Ranges)
            ),
        )
    }
)  # fmt: skip
WIDE: Mapping[str, Scheme] = MappingProxyType(
    {
        f"{name}-a32": replace(scheme, name=f"{name}-a32", activations="float32")
        for name, scheme in SCHEMES.items()
        if scheme.block is not None and scheme.activations == "int8"
    }
)
"""The same codes, with activations left in float32: what is computed is what PyTorch computes over
the stored weights. Slower, so no search tries them."""
STATIC = {"int8-static": "int8-static-minmax"} | {
    name: name for name, scheme in SCHEMES.items() if scheme.ranges is not None
}

# What a short name means for each part: the decoder's MatMulNBits knows no scale per row, and
# 32 is the block it takes for 8 bits when nobody asks for one (64 for 4 bits: measured fastest).
# Four bits ruin a vision encoder (cosine .973 where int8 has .9999), so none are offered there.
PART_NAMES: Mapping[PartName, Mapping[str, str]] = MappingProxyType(
    {
        "vision": {"fp32": "fp32", "int8": "int8"} | STATIC,
        "connector": {"fp32": "fp32", "int8": "int8"} | STATIC,
        "decoder": {"fp32": "fp32", "int8": "int8-32", "int4": "int4-64",
                    "int4-gptq": "int4-64-gptq", "nf4": "nf4-64", "int8-a32": "int8-32-a32",
                    "int4-a32": "int4-64-a32", "int4-gptq-a32": "int4-64-gptq-a32"}
        | {name: name for name, scheme in SCHEMES.items() if scheme.block is not None}
        | {name: name for name in WIDE},
    }
)  # fmt: skip
ALIASES: Mapping[str, str] = MappingProxyType(
    {"int4": "int4-64", "int4-gptq": "int4-64-gptq", "nf4": "nf4-64"}
)


def scheme_named(name: str, part: PartName | None = None) -> Scheme:
    """The scheme that goes by this name.

    Args:
        name: a key of `SCHEMES`, or a short name such as `int4`.
        part: whose engine will run it: `int8` is a scale per row for vision and a scale per
            block for the decoder. None: any scheme, `int8` being a scale per row.

    Raises:
        SchemeUnknown: nothing goes by this name, or this part's engine cannot run it.
    """
    every = {**SCHEMES, **WIDE}
    known = ({**ALIASES, **{each: each for each in every}}) if part is None else PART_NAMES[part]
    if name not in known:
        whose = f"scheme of the part {part!r}" if part else "scheme"
        raise SchemeUnknown(
            f"got {name!r}, which is no {whose}; there are {', '.join(sorted(known))}",
            hint="int8 for vision and int4 for the decoder are the defaults",
        )
    return every[known[name]]


def given_scheme(weights: WeightType, block: int | None, activations: ActivationType) -> Scheme:
    """The scheme of a graph that another tool quantized, as it was found there.

    Its floor is that of our own of the next larger block; of int4 that of GPTQ, since such tools
    too give up some of a matrix for what its layer says.

    Args:
        weights: int8 or int4.
        block: of most of its weights.
        activations: `int8` where what is computed is in Q/DQ pairs too.
    """
    method = "gptq" if weights == "int4" else "nearest"
    floors = {scheme.block or 0: scheme.floor_db for scheme in SCHEMES.values()
              if (scheme.weights, scheme.method) == (weights, method)}  # fmt: skip
    next_larger = next((one for one in sorted(floors) if one >= (block or 0)), max(floors))
    words = weights if block is None else f"{weights}-{block}"
    return Scheme(f"{words}-given", weights, block, activations=activations,
                  floor_db=floors[next_larger], method="given")  # fmt: skip


def scheme_from_json(value: Mapping[str, Any]) -> Scheme:
    """The scheme that a manifest's `scheme` object describes.

    `block`, `activations`, `method` and `ranges` may be absent or null (no blocks, float32, the
    nearest code, ranges of each call); further keys are ignored.

    Raises:
        SchemeUnknown: no scheme of ours is like this.
    """
    described = {
        "weights": value.get("weights"),
        "block": value.get("block"),
        "symmetric": value.get("symmetric", True),
        "activations": value.get("activations") or "float32",
        **{key: value[key] for key in ("method", "ranges") if value.get(key)},
    }
    if described.get("method") == "nearest":
        del described["method"]
    known = [*SCHEMES.values(), *WIDE.values()]
    if described.get("method") == "given" and described["weights"] in ("int8", "int4"):
        with suppress(TypeError, ValueError):  # of a block that no scheme has
            words = described["weights"], described["block"], described["activations"]
            known.append(given_scheme(*words))
    for scheme in known:
        if scheme.as_json() == described:
            return scheme
    raise SchemeUnknown(
        f"got a scheme {described}, expected one of {', '.join(SCHEMES)}",
        hint="the bundle may be of a newer version: update EdgeStream, or export it again",
    )
