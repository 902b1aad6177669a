"""A small but complete bundle: vision, gate, connector, decoder with a cache, golden calls."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np

from edgestream.export.write_bundle import bundle_writer
from edgestream.runtime.engines.ort import OrtBackend
from edgestream.runtime.golden import GoldenCall, Tolerance, write_golden
from edgestream.runtime.json_fields import json_from_value

from .onnx_graphs import model, node

DIM, HEAD, VOCABULARY = 8, 4, 16
CLOSE = Tolerance(max_abs=1e-5, min_cosine=0.9999)
WORDS = Tolerance(max_abs=1e-4, min_argmax=1.0)

FACTS = {
    "format": 1,
    "name": "small",
    "created": "2026-11-20T10:00:00Z",
    "made_with": {"edgestream": "0.1.0", "onnxruntime": "1.31.1"},
    "source": {
        "checkpoint": "random",
        "revision": None,
        "sha256": "0" * 64,
        "adapter": None,
        "licence": "Apache-2.0",
        "family": "live",
    },
    "input": {"size_px": [8, 8], "fps": 2, "resize": "squash", "mean": [], "std": []},
    "tokens_per_frame": 4,
    "positions": {"axes": 1, "theta": 10000.0, "sections": None},
    "cache": {"layers": 1, "kv_heads": 1, "head_dim": HEAD, "capacity": 32},
    "prompt": {
        "segments": {"frame": [{"slot": "embeds"}], "user": [{"slot": "question"}]},
        "order": ["frame*", "user"],
        "stop_ids": [2],
        "max_answer_tokens": 8,
    },
    "gate": {
        "kind": "learned",
        "events": ["cut", "dark"],
        "thresholds": {"cut": 0.4},
        "state": [{"name": "state", "shape": [1, DIM], "dtype": "float32"}],
    },
    "embeddings": {"file": "embeddings.bin", "dtype": "float16", "shape": [VOCABULARY, DIM]},
    "calibration": {"sha256": "2" * 64, "frames": 64, "source": "rendered test clips"},
    "parity": {
        "passed": True,
        "gates": {
            "engine": {
                "vision": {"worst": "cosine_min", "value": 0.99981, "must": 0.99},
                "decoder": {"worst": "cosine_mean", "value": 0.9986, "must": 0.998},
            },
            "snr_db": {"decoder": {"worst": "layers.0.mlp.down_proj", "value": 18.7, "must": 18}},
            "agreement": {},
        },
    },
    "memory": {
        "weights_bytes": 150_600_000,
        "kv_bytes": 23_592_960,
        "workspace_bytes": 12_000_000,
        "budget_default_bytes": 64_000_000,
    },
}


def random_array(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def vision():
    """Patches through one matrix; their mean is the summary."""
    return model(
        [
            node("Reshape", ["pixels", "shape"], ["patches"]),
            node("MatMul", ["patches", "weight"], ["tokens"]),
            node("ReduceMean", ["tokens"], ["summary"], axes=[1], keepdims=0),
        ],
        [("pixels", "float32", [1, 3, 8, 8])],
        [("tokens", "float32", [1, 4, DIM]), ("summary", "float32", [1, DIM])],
        {"shape": np.array([1, 4, 48]), "weight": random_array(1, 48, DIM)},
    )


def gate():
    """A state that fades, and a score per event type."""
    return model(
        [
            node("Mul", ["state", "fade"], ["kept"]),
            node("Add", ["kept", "summary"], ["state_out"]),
            node("MatMul", ["state_out", "weight"], ["raw"]),
            node("Sigmoid", ["raw"], ["scores"]),
        ],
        [("summary", "float32", [1, DIM]), ("state", "float32", [1, DIM])],
        [("scores", "float32", [1, 2]), ("state_out", "float32", [1, DIM])],
        {"fade": np.float32([0.5]), "weight": random_array(2, DIM, 2)},
    )


def connector():
    return model(
        [node("MatMul", ["tokens", "weight"], ["embeds"])],
        [("tokens", "float32", [1, "tokens", DIM])],
        [("embeds", "float32", [1, "tokens", DIM])],
        {"weight": random_array(3, DIM, DIM)},
    )


def decoder():
    """The tensors of a decoder with a cache, its arithmetic as small as it can be."""
    past = [1, 1, "past", HEAD]
    return model(
        [
            node("MatMul", ["inputs_embeds", "weight_key"], ["key"]),
            node("MatMul", ["inputs_embeds", "weight_value"], ["value"]),
            node("Unsqueeze", ["key", "one"], ["key_4d"]),
            node("Unsqueeze", ["value", "one"], ["value_4d"]),
            node("Concat", ["past_key_values.0.key", "key_4d"], ["present.0.key"], axis=2),
            node("Concat", ["past_key_values.0.value", "value_4d"], ["present.0.value"], axis=2),
            node("Mul", ["present.0.key", "present.0.value"], ["products"]),
            node("Cast", ["attention_mask"], ["mask"], to=1),
            node("Reshape", ["mask", "mask_shape"], ["mask_4d"]),
            node("Mul", ["products", "mask_4d"], ["masked"]),
            node("ReduceMean", ["masked"], ["mean"], axes=[2], keepdims=0),
            node("MatMul", ["mean", "weight_out"], ["logits"]),
        ],
        [
            ("inputs_embeds", "float32", [1, "tokens", DIM]),
            ("attention_mask", "int64", [1, "total"]),
            ("past_key_values.0.key", "float32", past),
            ("past_key_values.0.value", "float32", past),
        ],
        [
            ("logits", "float32", [1, 1, VOCABULARY]),
            ("present.0.key", "float32", [1, 1, "total", HEAD]),
            ("present.0.value", "float32", [1, 1, "total", HEAD]),
        ],
        {
            "weight_key": random_array(4, DIM, HEAD),
            "weight_value": random_array(5, DIM, HEAD),
            "weight_out": random_array(6, HEAD, VOCABULARY),
            "one": np.array([1]),
            "mask_shape": np.array([1, 1, -1, 1]),
        },
    )


GRAPHS = {"vision": vision, "gate": gate, "connector": connector, "decoder": decoder}


def decoder_inputs(past, tokens, seed=0):
    cache = random_array(seed + 1, 2, 1, 1, past, HEAD)
    return {
        "inputs_embeds": random_array(seed, 1, tokens, DIM),
        "attention_mask": np.ones((1, past + tokens), np.int64),
        "past_key_values.0.key": cache[0],
        "past_key_values.0.value": cache[1],
    }


def golden_inputs():
    """(role, name of the call, inputs)."""
    return [
        ("vision", "frame 0", {"pixels": random_array(7, 1, 3, 8, 8)}),
        ("gate", "first", {"summary": random_array(8, 1, DIM), "state": np.zeros((1, DIM), "f4")}),
        ("gate", "later", {"summary": random_array(9, 1, DIM), "state": random_array(8, 1, DIM)}),
        ("connector", "frame 0", {"tokens": random_array(10, 1, 4, DIM)}),
        ("decoder", "prefill 6", decoder_inputs(0, 6)),
        ("decoder", "decode at 6", decoder_inputs(6, 1)),
    ]


def scheme_of(role):
    if role == "decoder":
        return {"weights": "int4", "block": 64, "symmetric": True, "activations": "int8"}
    return {"weights": "int8", "symmetric": True, "activations": "int8"}


def variant_of(role, engine, file):
    return {
        "id": "cpu",
        "provider": "cpu",
        "file": file,
        "proof": "passed",
        "io_dtype": "float32",
        "scheme": scheme_of(role),
        **({"kv_dtype": "float32"} if role == "decoder" else {}),
        "inputs": [json_from_value(spec) for spec in engine.inputs],
        "outputs": [json_from_value(spec) for spec in engine.outputs],
    }


def calls_of(role, engine):
    for own, name, inputs in golden_inputs():
        if own == role:
            outputs = engine.run(inputs)
            tolerances = dict.fromkeys(outputs, CLOSE)
            if "logits" in tolerances:
                tolerances["logits"] = WORDS
            yield GoldenCall(role, "cpu", name, inputs, outputs, tolerances)


def write_small_bundle(target, *, force=False, change_calls=None, change_facts=None):
    """Write the bundle; the changes are functions of the golden calls and of the facts."""
    facts = copy.deepcopy(FACTS)
    facts["parts"], calls = [], []
    with bundle_writer(target, force=force) as writer:
        for role, graph in GRAPHS.items():
            file = f"{role}.onnx"
            writer.write_bytes(file, graph())
            with OrtBackend().open(writer.folder / file) as engine:
                variants = [variant_of(role, engine, file)]
                facts["parts"].append({"role": role, "variants": variants})
                calls += calls_of(role, engine)
        table = random_array(11, VOCABULARY, DIM).astype(np.float16)
        writer.write_bytes("embeddings.bin", table.tobytes())
        writer.write_json("tokenizer.json", {"model": {}})
        writer.write_json("parity.json", facts["parity"])
        writer.write_text("MODEL_CARD.md", "# A random model\n")
        writer.write_bytes("adapters/none.onnx_adapter", b"")
        calls = change_calls(calls) if change_calls else calls
        write_golden(writer.path("golden.npz"), calls)
        if change_facts:
            change_facts(facts)
        writer.finish(facts)
    return target


def with_outputs(call, **outputs):
    """The call with other expected outputs."""
    return dataclasses.replace(call, outputs={**call.outputs, **outputs})
