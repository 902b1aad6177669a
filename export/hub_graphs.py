"""The graphs of a bundle as the Hub's `onnx/` folders have them: other names, the same weights.

No weight is read into memory: graphs are rewritten without their data, and data files are copied.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, TensorProto, helper, numpy_helper

from ..runtime.bundle import Bundle
from ..runtime.manifest_values import Embeddings, Variant

FOLDER = "onnx"
VISION, CONNECTOR, GATE = "vision_encoder", "multi_modal_projector", "gate"
EMBED, DECODER, TEXT = "embed_tokens", "decoder_model_merged", "model"
PIXELS, FEATURES, IDS, EMBEDS = "pixel_values", "image_features", "input_ids", "inputs_embeds"
POSITIONS = "position_ids"
OPSET, IR_VERSION = 21, 10
_FLOATS = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16}


def write_hub_graphs(bundle: Bundle, folder: Path) -> tuple[str, ...]:
    """Write every graph of a bundle into `folder`; returns the files that have data beside them.

    - `vision_encoder.onnx`: pixel_values (1, channels, height, width) → image_features (1, tokens,
      hidden), and tokens and summary, which a gate reads. Where the connector reads the gate's
      state, image_features come from `multi_modal_projector.onnx`.
    - `embed_tokens.onnx`: input_ids (batch, tokens) → inputs_embeds.
    - `decoder_model_merged.onnx`: inputs_embeds and the cache → logits of the last position.
    - `model.onnx`: both in one, input_ids → logits; it reads their data files.
    - `gate.onnx`, where there is one.

    Raises:
        BundleError: the bundle lacks a part.

    Cost: time and disk of copying the bundle.
    """
    _write_embed_tokens(bundle, folder)
    _write_decoder(bundle, folder)
    _write_vision(bundle, folder)
    if bundle.manifest.part("gate") is not None:
        gate = _graph(bundle, bundle.variant("gate"))
        _move_data(gate, bundle, folder, GATE)
        _save(gate, folder, GATE)
    return tuple(
        file.name for file in sorted(folder.glob("*.onnx"))
        if (folder / f"{file.name}_data").exists()
    )  # fmt: skip


def decoder_graph(bundle: Bundle) -> GraphProto:
    """The decoder's graph, its large weights left on the disk."""
    return _graph(bundle, bundle.variant("decoder")).graph


def _graph(bundle: Bundle, variant: Variant) -> ModelProto:
    return onnx.load(str(bundle.path(variant.file)), load_external_data=False)


def _save(model: ModelProto, folder: Path, name: str) -> None:
    (folder / f"{name}.onnx").write_bytes(model.SerializeToString(deterministic=True))


def _move_data(model: ModelProto, bundle: Bundle, folder: Path, name: str, first: int = 0) -> int:
    """Copy the data files of a graph under the Hub's names and let its tensors point there.

    Returns:
        How many data files there are now, `first` of them from before.
    """
    moved: dict[str, str] = {}
    for tensor in _external(model.graph.initializer):
        for entry in tensor.external_data:
            if entry.key == "location":
                if entry.value not in moved:
                    count = first + len(moved)
                    moved[entry.value] = f"{name}.onnx_data" + (f"_{count}" if count else "")
                    shutil.copyfile(bundle.path(entry.value), folder / moved[entry.value])
                entry.value = moved[entry.value]
    return first + len(moved)


def _external(tensors: Iterable[TensorProto]) -> list[TensorProto]:
    return [one for one in tensors if one.data_location == TensorProto.EXTERNAL]


def _write_embed_tokens(bundle: Bundle, folder: Path) -> None:
    facts = bundle.manifest.embeddings
    bundle.embeddings()  # refuses a bundle without them
    assert facts is not None
    shutil.copyfile(bundle.path(facts.file), folder / f"{EMBED}.onnx_data")
    width = _embeds_width(bundle)
    graph = helper.make_graph(
        _looked_up(facts, width),
        EMBED,
        [helper.make_tensor_value_info(IDS, TensorProto.INT64, ["batch", "tokens"])],
        [helper.make_tensor_value_info(EMBEDS, TensorProto.FLOAT, ["batch", "tokens", width])],
        [_table(facts), *_padding(facts, width)],
    )
    opsets = [helper.make_opsetid("", OPSET)]
    _save(helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION), folder, EMBED)


def _table(facts: Embeddings) -> TensorProto:
    """The table of token embeddings, which stays the file that it is in the bundle."""
    table = TensorProto(
        name="embed_tokens.weight",
        data_type=_FLOATS[facts.dtype],
        dims=facts.shape,
        data_location=TensorProto.EXTERNAL,
    )
    n_bytes = int(np.prod(facts.shape)) * np.dtype(facts.dtype).itemsize
    for key, value in (("location", f"{EMBED}.onnx_data"), ("offset", 0), ("length", n_bytes)):
        table.external_data.add(key=key, value=str(value))
    return table


def _padding(facts: Embeddings, width: int) -> list[TensorProto]:
    """Zeros behind a row, where the decoder reads more of a token than its embedding."""
    missing = width - facts.shape[1]
    pads = np.array([0, 0, 0, 0, 0, missing], np.int64)
    return [numpy_helper.from_array(pads, "embed_tokens.pads")] if missing else []


def _looked_up(facts: Embeddings, width: int) -> list[onnx.NodeProto]:
    last = "rows_wide" if _padding(facts, width) else EMBEDS
    nodes = [helper.make_node("Gather", ["embed_tokens.weight", IDS], ["rows"], axis=0)]
    nodes.append(helper.make_node("Cast", ["rows"], [last], to=TensorProto.FLOAT))
    if last != EMBEDS:
        nodes.append(helper.make_node("Pad", [last, "embed_tokens.pads"], [EMBEDS]))
    return nodes


def _embeds_width(bundle: Bundle) -> int:
    for value in decoder_graph(bundle).input:
        if value.name == EMBEDS:
            return int(value.type.tensor_type.shape.dim[2].dim_value)
    raise AssertionError("a decoder of a bundle reads inputs_embeds")


def _write_decoder(bundle: Bundle, folder: Path) -> None:
    """The decoder, and the decoder behind the table, on the same data files."""
    decoder = _graph(bundle, bundle.variant("decoder"))
    _move_data(decoder, bundle, folder, DECODER)
    _save(decoder, folder, DECODER)
    facts = bundle.manifest.embeddings
    assert facts is not None
    width, graph = _embeds_width(bundle), decoder.graph
    inputs = [value for value in graph.input if value.name not in (EMBEDS, POSITIONS)]
    ids = helper.make_tensor_value_info(IDS, TensorProto.INT64, ["batch_size", "sequence_length"])
    nodes = [*_looked_up(facts, width), *_text_positions(graph), *graph.node]
    positions = [value for value in graph.input if value.name == POSITIONS]
    if positions:
        ids_shape = ["batch_size", "sequence_length"]
        inputs.append(helper.make_tensor_value_info(POSITIONS, TensorProto.INT64, ids_shape))
    tensors = [*graph.initializer, _table(facts), *_padding(facts, width)]
    whole = helper.make_graph(nodes, TEXT, [ids, *inputs], list(graph.output), tensors)
    model = helper.make_model(
        whole, opset_imports=list(decoder.opset_import), ir_version=decoder.ir_version
    )
    _save(model, folder, TEXT)


def _text_positions(graph: GraphProto) -> list[onnx.NodeProto]:
    """One position a token, equal on every axis, for a decoder that takes one on each axis.

    The nodes of `graph` are told to read the new name.
    """
    found = [value for value in graph.input if value.name == POSITIONS]
    if not found or len(found[0].type.tensor_type.shape.dim) == 2:
        return []
    axes = found[0].type.tensor_type.shape.dim[0].dim_value or 3
    by_axis = f"{POSITIONS}_by_axis"
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name == POSITIONS:
                node.input[index] = by_axis
    one, shape = f"{POSITIONS}_axis", f"{POSITIONS}_axes"
    constants = [
        helper.make_node("Constant", [], [one], value_ints=[0]),
        helper.make_node("Constant", [], [shape], value_ints=[axes, 1, 1]),
    ]
    return [
        *constants,
        helper.make_node("Unsqueeze", [POSITIONS, one], [f"{POSITIONS}_3d"]),
        helper.make_node("Expand", [f"{POSITIONS}_3d", shape], [by_axis]),
    ]


def _write_vision(bundle: Bundle, folder: Path) -> None:
    vision = _graph(bundle, bundle.variant("vision"))
    connector = _graph(bundle, bundle.variant("connector"))
    _rename(vision.graph, "pixels", PIXELS)
    files = _move_data(vision, bundle, folder, VISION)
    if not vision_is_whole(bundle):
        _rename(connector.graph, "embeds", FEATURES)
        _move_data(connector, bundle, folder, CONNECTOR)
        _save(connector, folder, CONNECTOR)
        _save(vision, folder, VISION)
        return
    _move_data(connector, bundle, folder, VISION, files)
    second = onnx.compose.add_prefix(connector, "connector/")
    _rename(second.graph, "connector/tokens", "tokens")
    _rename(second.graph, "connector/embeds", FEATURES)
    first = vision.graph
    outputs = [*second.graph.output, *first.output]
    for field in ("node", "initializer", "value_info"):
        getattr(first, field).extend(getattr(second.graph, field))
    del first.output[:]
    first.output.extend(outputs)
    known = {one.domain for one in vision.opset_import}
    vision.opset_import.extend(one for one in second.opset_import if one.domain not in known)
    vision.functions.extend(second.functions)
    _save(vision, folder, VISION)


def vision_is_whole(bundle: Bundle) -> bool:
    """`vision_encoder.onnx` gives what the decoder reads, with the connector inside."""
    connector = _graph(bundle, bundle.variant("connector"))
    vision = _graph(bundle, bundle.variant("vision"))
    opsets = [
        {one.domain: one.version for one in model.opset_import}.get("")
        for model in (vision, connector)
    ]
    return [one.name for one in connector.graph.input] == ["tokens"] and opsets[0] == opsets[1]


def _rename(graph: GraphProto, old: str, new: str) -> None:
    for value in (*graph.input, *graph.output, *graph.value_info):
        value.name = new if value.name == old else value.name
    for node in graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name == old:
                    names[index] = new
