"""Reading a bundle's manifest: JSON into the values of `runtime/manifest_values.py`."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any

from .adapter_facts import adapter_from_json
from .errors import FormatTooNew, ManifestInvalid
from .file_names import HASH_FILE, MANIFEST_FILE, path_is_plain
from .frame_facts import frame_input_from_json as frame_input_from_json
from .frame_facts import pair
from .json_fields import Fields
from .manifest_values import FORMAT
from .manifest_values import AdapterFacts as AdapterFacts
from .manifest_values import CacheShape as CacheShape
from .manifest_values import CalibrationFacts as CalibrationFacts
from .manifest_values import Embeddings as Embeddings
from .manifest_values import FileFacts as FileFacts
from .manifest_values import FrameInput as FrameInput
from .manifest_values import GateFacts as GateFacts
from .manifest_values import Manifest as Manifest
from .manifest_values import MemoryPlan as MemoryPlan
from .manifest_values import MotionInput as MotionInput
from .manifest_values import Part as Part
from .manifest_values import Positions as Positions
from .manifest_values import Source as Source
from .manifest_values import TensorSpec as TensorSpec
from .manifest_values import Variant as Variant
from .position_facts import positions_from_json

ROLES = ("vision", "gate", "connector", "decoder", "evict", "indexer")
DTYPES = ("float32", "float16", "bfloat16", "int64", "int32", "int8", "uint8", "bool")
EMBEDDING_DTYPES = ("float32", "float16")
PROOFS = ("passed", "pending-device")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CREATED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


def manifest_from_json(value: Any) -> Manifest:
    """The manifest that a parsed JSON value holds.

    Raises:
        FormatTooNew: it was written by a later version in a format that this one does not know.
        ManifestInvalid: a field is missing or wrong; the message names its place, what was got and
            what was expected.
        PromptInvalid: the prompt layout makes no sense.
    """
    fields = Fields(value, "", _invalid)
    number = fields.whole("format")
    if number > FORMAT:
        raise FormatTooNew(
            f"manifest.json: got format {number}, expected at most {FORMAT}",
            hint="a newer edgestream wrote this bundle; update this one",
        )
    manifest = Manifest(
        format=number,
        name=fields.text("name"),
        created=fields.matching("created", _CREATED, "a time such as 2026-11-20T10:00:00Z"),
        made_with=fields.mapping("made_with", _is_text, "an object of texts"),
        source=fields.object("source", _source),
        input=fields.object("input", frame_input_from_json),
        tokens_per_frame=fields.whole("tokens_per_frame"),
        prompt=fields.mapping("prompt"),
        parts=fields.objects("parts", _part),
        files=_files(fields),
        parity=_parity(fields),
        positions=fields.maybe("positions", positions_from_json),
        cache=fields.maybe("cache", _cache),
        gate=fields.maybe("gate", _gate),
        embeddings=fields.maybe("embeddings", _embeddings),
        calibration=fields.maybe("calibration", _calibration),
        memory=fields.maybe("memory", _memory),
        adapters=fields.objects("adapters", adapter_from_json) if "adapters" in fields else None,
        extra=fields.rest(),
    )
    manifest.layout()
    _check_references(manifest)
    return manifest


def _invalid(message: str) -> ManifestInvalid:
    return ManifestInvalid(f"manifest.json: {message}", hint="export the bundle again")


def _source(fields: Fields) -> Source:
    return Source(
        checkpoint=fields.text("checkpoint"),
        sha256=_sha256(fields),
        licence=fields.text("licence"),
        family=fields.text("family"),
        revision=_text_or_null(fields, "revision"),
        adapter=_text_or_null(fields, "adapter"),
        extra=fields.rest(),
    )


def _cache(fields: Fields) -> CacheShape:
    return CacheShape(
        layers=fields.whole("layers"),
        kv_heads=fields.whole("kv_heads"),
        head_dim=fields.whole("head_dim"),
        capacity=fields.whole("capacity"),
        extra=fields.rest(),
    )


def _gate(fields: Fields) -> GateFacts:
    has_ratio = "close_ratio" in fields
    return GateFacts(
        kind=fields.text("kind"),
        events=fields.texts("events"),
        thresholds=fields.mapping("thresholds", _is_share, "an object of numbers in [0, 1]"),
        close_ratio=fields.number("close_ratio", at_least=0, at_most=1) if has_ratio else None,
        attributes=_texts_by_name(fields, "attributes"),
        attributes_of=_texts_by_name(fields, "attributes_of"),
        state=fields.objects("state", _state) if "state" in fields else None,
        query_dim=fields.whole("query_dim") if "query_dim" in fields else None,
        reads_spoken=fields.flag("reads_spoken") if "reads_spoken" in fields else None,
        extra=fields.rest(),
    )


def _texts_by_name(fields: Fields, key: str) -> Mapping[str, tuple[str, ...]] | None:
    def has_texts(texts: Any) -> bool:
        return isinstance(texts, list | tuple) and bool(texts) and all(map(_is_text, texts))

    return fields.mapping(key, has_texts, "an object of lists of texts") if key in fields else None


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _state(fields: Fields) -> TensorSpec:
    name, dtype = fields.text("name"), fields.text("dtype", one_of=DTYPES)
    return TensorSpec(name, dtype, fields.wholes("shape"), extra=fields.rest())


def _tensor(fields: Fields) -> TensorSpec:
    shape = fields.anything("shape")
    if not isinstance(shape, tuple) or not all(map(_is_size, shape)):
        raise fields.refused("shape", shape, "a list of sizes and names of sizes")
    name, dtype = fields.text("name"), fields.text("dtype", one_of=DTYPES)
    return TensorSpec(name, dtype, shape, extra=fields.rest())


def _is_size(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | str):
        return False
    return value >= 0 if isinstance(value, int) else bool(value)


def _part(fields: Fields) -> Part:
    role, variants = fields.text("role", one_of=ROLES), fields.objects("variants", _variant)
    if not variants:
        raise fields.refused("variants", [], "at least one variant")
    _check_unique(fields, "variants", [variant.id for variant in variants])
    return Part(role, variants, extra=fields.rest())


def _variant(fields: Fields) -> Variant:
    return Variant(
        id=fields.text("id"),
        provider=fields.text("provider"),
        file=fields.text("file"),
        proof=fields.text("proof", one_of=PROOFS),
        io_dtype=fields.text("io_dtype", one_of=DTYPES),
        inputs=fields.objects("inputs", _tensor),
        outputs=fields.objects("outputs", _tensor),
        kv_dtype=fields.text("kv_dtype", one_of=DTYPES) if "kv_dtype" in fields else None,
        scheme=fields.mapping("scheme") if "scheme" in fields else None,
        extra=fields.rest(),
    )


def _embeddings(fields: Fields) -> Embeddings:
    file, dtype = fields.text("file"), fields.text("dtype", one_of=EMBEDDING_DTYPES)
    shape = pair(fields, "shape", "[vocabulary, dim]")
    width = fields.whole("width", at_least=shape[1]) if "width" in fields else None
    return Embeddings(file, dtype, shape, width, extra=fields.rest())


def _files(fields: Fields) -> Mapping[str, FileFacts]:
    files: dict[str, FileFacts] = {}
    for name, facts in fields.named("files"):
        if not path_is_plain(name):
            raise fields.refused("files", name, "paths that stay in the bundle")
        if name in (MANIFEST_FILE, HASH_FILE):
            raise fields.refused("files", name, "every file but the manifest and its hash")
        n_bytes = facts.whole("bytes", at_least=0)
        files[name] = FileFacts(_sha256(facts), n_bytes, extra=facts.rest())
    return MappingProxyType(files)


def _calibration(fields: Fields) -> CalibrationFacts:
    frames, source = fields.whole("frames", at_least=0), fields.text("source")
    return CalibrationFacts(_sha256(fields), frames, source, extra=fields.rest())


def _memory(fields: Fields) -> MemoryPlan:
    sizes = ("weights_bytes", "kv_bytes", "workspace_bytes", "budget_default_bytes")
    needed = {name: fields.whole(name, at_least=0) for name in sizes}
    taught = {name: fields.whole(name) for name in ("topk", "clip_len") if name in fields}
    return MemoryPlan(**needed, **taught, extra=fields.rest())


def _parity(fields: Fields) -> Mapping[str, Any]:
    def check(parity: Fields) -> None:
        parity.flag("passed")
        parity.mapping("gates")

    fields.object("parity", check)
    return fields.mapping("parity")


def _check_references(manifest: Manifest) -> None:
    """Every file that the manifest uses is a file that it lists; what it says fits together."""
    roles = [part.role for part in manifest.parts]
    if len(set(roles)) < len(roles):
        raise _invalid(f"parts: got the roles {', '.join(roles)}, expected each once")
    positions, tokens = manifest.positions, manifest.tokens_per_frame
    if positions is not None and not positions.grid_holds(tokens):
        grid = list(positions.frame_grid or ())
        raise _invalid(f"positions.frame_grid: got {grid}, expected the {tokens} tokens of a frame")
    _check_query(manifest)
    used = [(f"parts.{role}.{one.id}.file", one.file) for role, one in manifest.variants()]
    if manifest.embeddings is not None:
        used.append(("embeddings.file", manifest.embeddings.file))
    for one in manifest.adapters or ():
        used.append((f"adapters.{one.name}.file", one.file))
        if one.base_sha256 != manifest.source.sha256:
            raise _invalid(f"adapters.{one.name}: it belongs to {one.base_sha256[:12]}…, not here")
    for place, name in used:
        if name not in manifest.files:
            raise _invalid(f"{place}: got {name!r}, expected a file that `files` lists")


def _check_query(manifest: Manifest) -> None:
    """A query is made of rows of the table of embeddings, so it is as wide as they are."""
    wide = None if manifest.gate is None else manifest.gate.query_dim
    dim = 0 if manifest.embeddings is None else manifest.embeddings.shape[1]
    if wide is not None and wide != dim:
        raise _invalid(f"gate.query_dim: got {wide}, expected {dim}, the numbers of an embedding")


def _check_unique(fields: Fields, key: str, names: Collection[str]) -> None:
    if len(set(names)) < len(names):
        raise fields.refused(key, list(names), "each id once")


def _sha256(fields: Fields) -> str:
    return fields.matching("sha256", _SHA256, "64 hex digits")


def _text_or_null(fields: Fields, key: str) -> str | None:
    """A text that must stand there, if only as null."""
    return fields.text(key) if fields.anything(key) is not None else None
