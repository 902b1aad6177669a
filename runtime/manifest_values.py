"""What a bundle says of itself, as frozen values.

A field that is optional on docs/FORMATS.md, section 1, is None where it is absent. Keys that this
version does not know are kept in `extra` of the value they stand in. `runtime/manifest.py` reads
these values; `Manifest.as_json` writes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from .adapter_facts import AdapterFacts as AdapterFacts
from .json_fields import json_from_value
from .manifest_parts import Part as Part
from .manifest_parts import TensorSpec as TensorSpec
from .manifest_parts import Variant as Variant
from .position_facts import Positions as Positions
from .prompt_json import layout_from_json
from .prompt_layout import PromptLayout

FORMAT = 1
# Written as null where they are None; every other None is left out.
_SHOWN_AS_NULL = {"shown_as_null": True}


def _nothing() -> Mapping[str, Any]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Source:
    """What a bundle was made of.

    Attributes:
        checkpoint: name or address, without folders of the machine that made it.
        sha256: of the checkpoint's weights, 64 hex digits.
        licence: SPDX name.
        family: name of the family that loaded it.
        revision: of the checkpoint; None where it has none.
        adapter: that was merged into it; None without one.
    """

    checkpoint: str
    sha256: str
    licence: str
    family: str
    revision: str | None = field(default=None, metadata=_SHOWN_AS_NULL)
    adapter: str | None = field(default=None, metadata=_SHOWN_AS_NULL)
    extra: Mapping[str, Any] = field(default_factory=_nothing)


@dataclass(frozen=True, slots=True)
class MotionInput:
    """How motion is measured for the parts that read it.

    Attributes:
        kind: for example `block`.
        cells: along each side.
        reach_px: farthest displacement that is searched, px.
        maps: their names, in the order of the channels.
    """

    kind: str
    cells: int
    reach_px: int
    maps: tuple[str, ...]
    extra: Mapping[str, Any] = field(default_factory=_nothing)


@dataclass(frozen=True, slots=True)
class FrameInput:
    """What the parts expect of a frame.

    Attributes:
        size_px: (height, width), px.
        fps: frames a second that it was made for.
        resize: how a picture gets this size: letterbox, squash or crop.
        channels: of the input; None for three colours.
        max_gap_s: longest gap between frames, seconds; None for no limit.
        mean, std: per channel, of colours on the scale [0, 1], of motion maps in their own units;
            empty or None where nothing is taken off or divided.
        motion: None for parts that read no motion.
        filter: what a picture is made smaller with: area, bilinear, bicubic or lanczos, each over
            as many pixels as become one; None for area.
    """

    size_px: tuple[int, int]
    fps: float
    resize: str
    channels: int | None = None
    max_gap_s: float | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    motion: MotionInput | None = None
    filter: str | None = None
    extra: Mapping[str, Any] = field(default_factory=_nothing)


@dataclass(frozen=True, slots=True)
class CacheShape:
    """The decoder's cache: [layers, 2, kv_heads, capacity, head_dim]; capacity in positions."""

    layers: int
    kv_heads: int
    head_dim: int
    capacity: int
    extra: Mapping[str, Any] = field(default_factory=_nothing)


@dataclass(frozen=True, slots=True)
class GateFacts:
    """What the event gate was trained to tell.

    Attributes:
        kind: for example `learned`.
        events: event types, in the order of the scores; a first score more is `speak`.
        thresholds: open_above per event type, and `speak`; in [0, 1].
        close_ratio: close_below as a share of open_above; None for the default.
        attributes: attribute → its values, in the order of the output `attribute_<name>`.
        attributes_of: event type → the attributes told of it; None: every event has all.
        state: what is carried from frame to frame.
        query_dim: numbers of the query that it reads, those of an embedding; None: it reads none.
        reads_spoken: it reads when it last spoke; None: it does not.
    """

    kind: str
    events: tuple[str, ...]
    thresholds: Mapping[str, float]
    close_ratio: float | None = None
    attributes: Mapping[str, tuple[str, ...]] | None = None
    attributes_of: Mapping[str, tuple[str, ...]] | None = None
    state: tuple[TensorSpec, ...] | None = None
    query_dim: int | None = None
    reads_spoken: bool | None = None
    extra: Mapping[str, Any] = field(default_factory=_nothing)


@dataclass(frozen=True, slots=True)
class Embeddings:
    """The table of token embeddings.

    Attributes:
        file: row-major.
        dtype: float32 or float16.
        shape: (vocabulary, dim).
        width: numbers of a row that the decoder reads: the embedding, then what is added after its
            first layers, which is zero for text; None for dim.
    """

    file: str
    dtype: str
    shape: tuple[int, int]
    width: int | None = None
    extra: Mapping[str, Any] = field(default_factory=_nothing)

    @property
    def row_width(self) -> int:
        """`width`, or dim where none is given."""
        return self.shape[1] if self.width is None else self.width


@dataclass(frozen=True, slots=True)
class FileFacts:
    """A file of the bundle: its SHA-256 (64 hex digits) and its size."""

    sha256: str
    n_bytes: int = field(metadata={"key": "bytes"})
    extra: Mapping[str, Any] = field(default_factory=_nothing)


@dataclass(frozen=True, slots=True)
class CalibrationFacts:
    """The calibration set of the export: its SHA-256, how many frames, where they came from."""

    sha256: str
    frames: int
    source: str
    extra: Mapping[str, Any] = field(default_factory=_nothing)


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Bytes that running takes and memory may keep; how many frames training showed, and sorted."""

    weights_bytes: int
    kv_bytes: int
    workspace_bytes: int
    budget_default_bytes: int
    topk: int | None = None
    clip_len: int | None = None
    extra: Mapping[str, Any] = field(default_factory=_nothing)


@dataclass(frozen=True, slots=True)
class Manifest:
    """The whole manifest; see docs/FORMATS.md, section 1.

    Attributes:
        name: of the bundle.
        created: RFC 3339.
        made_with: program → version.
        prompt: the prompt layout as data (section 3), unknown keys included; see `layout`.
        parts: one per role.
        files: every file but the manifest and its hash, by its path in the bundle.
        parity: what the proof found: `passed`, and a summary of each of its gates.
        embeddings: None for a bundle without a language model.
        adapters: one of which may be chosen per answer; None: there are none.
    """

    name: str
    created: str
    made_with: Mapping[str, str]
    source: Source
    input: FrameInput
    tokens_per_frame: int
    prompt: Mapping[str, Any]
    parts: tuple[Part, ...]
    files: Mapping[str, FileFacts]
    parity: Mapping[str, Any]
    positions: Positions | None = None
    cache: CacheShape | None = None
    gate: GateFacts | None = None
    embeddings: Embeddings | None = None
    calibration: CalibrationFacts | None = None
    memory: MemoryPlan | None = None
    adapters: tuple[AdapterFacts, ...] | None = None
    format: int = FORMAT
    extra: Mapping[str, Any] = field(default_factory=_nothing)

    def as_json(self) -> dict[str, Any]:
        """The manifest as `json.dumps` takes it; `manifest_from_json` reads the same value."""
        return json_from_value(self)

    def layout(self) -> PromptLayout:
        """The prompt layout that `prompt` describes."""
        return layout_from_json(self.prompt)

    @property
    def weights_look_random(self) -> bool | None:
        """The checkpoint predicts no better than chance; None where the proof does not say."""
        return self.parity.get("weights_look_random")

    def part(self, role: str) -> Part | None:
        """The part of a role; None where the bundle has none."""
        return next((part for part in self.parts if part.role == role), None)

    def variants(self) -> tuple[tuple[str, Variant], ...]:
        """(role, variant) of every variant, in the order of the manifest."""
        return tuple((part.role, variant) for part in self.parts for variant in part.variants)
