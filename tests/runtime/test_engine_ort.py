"""ONNX Runtime behind the Engine contract: right names, types and shapes, or our error."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from edgestream.runtime.engine import BACKENDS, backend_for
from edgestream.runtime.engines import ort_session as module
from edgestream.runtime.engines.ladder import PROVIDERS
from edgestream.runtime.engines.ort import OrtBackend
from edgestream.runtime.errors import (
    BackendMissing,
    DeviceMemoryExhausted,
    EngineError,
    EngineFailed,
    EngineUnusable,
    InputMismatch,
)
from edgestream.runtime.manifest import TensorSpec, Variant

from ..bundles import DIM, GRAPHS, HEAD, decoder, decoder_inputs, random_array
from ..onnx_graphs import model, node


def written(folder, content, name="graph.onnx"):
    (folder / name).write_bytes(content)
    return folder / name


@pytest.fixture
def engine(tmp_path):
    with OrtBackend().open(written(tmp_path, decoder())) as engine:
        yield engine


def test_the_small_graphs_are_what_the_onnx_package_makes_of_them():
    onnx = pytest.importorskip("onnx")
    for graph in GRAPHS.values():
        onnx.checker.check_model(onnx.load_from_string(graph()), full_check=True)


def test_it_computes_what_numpy_computes(engine):
    inputs = decoder_inputs(6, 2)
    got = engine.run(inputs)
    key = np.concatenate(
        [
            inputs["past_key_values.0.key"],
            (inputs["inputs_embeds"] @ random_array(4, DIM, HEAD))[None],
        ],
        axis=2,
    )
    assert list(got) == [spec.name for spec in engine.outputs]
    np.testing.assert_allclose(got["present.0.key"], key, atol=1e-6)
    assert got["logits"].dtype == np.float32 and engine.provider == "cpu"


def test_a_cache_of_any_length_is_taken_the_empty_one_too(engine):
    for past, tokens in ((0, 1), (0, 9), (30, 1)):
        got = engine.run(decoder_inputs(past, tokens))
        assert got["present.0.value"].shape == (1, 1, past + tokens, HEAD)


def replaced(**changes):
    inputs = decoder_inputs(3, 2)
    for name, array in changes.items():
        name = {"key": "past_key_values.0.key"}.get(name, name)
        inputs[name] = array
    return {name: array for name, array in inputs.items() if array is not None}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"inputs_embeds": np.zeros((1, 2, DIM))},
            ["inputs_embeds", "float64 [1, 2, 8]", "float32 [1, tokens, 8]"],
        ),
        (
            {"inputs_embeds": np.zeros((1, 2, 9), "f4")},
            ["inputs_embeds", "float32 [1, 2, 9]", "float32 [1, tokens, 8]"],
        ),
        ({"inputs_embeds": np.zeros((2, DIM), "f4")}, ["[2, 8]", "[1, tokens, 8]"]),
        ({"inputs_embeds": None}, ["inputs_embeds", "got nothing", "float32 [1, tokens, 8]"]),
        ({"attention_mask": np.ones((1, 5), "i4")}, ["int32 [1, 5]", "int64 [1, total]"]),
        ({"position_ids": np.ones((1, 5))}, ["position_ids", "expected only inputs_embeds"]),
        # The key has five positions, the value of the same cache three.
        ({"key": np.zeros((1, 1, 5, HEAD), "f4")}, ["past_key_values.0.value", "{'past': 5}"]),
    ],
)
def test_a_wrong_input_names_the_tensor_and_both_sides(engine, changes, words):
    with pytest.raises(InputMismatch) as fault:
        engine.run(replaced(**changes))
    assert all(word in fault.value.message for word in words), fault.value.message
    assert fault.value.exit_code == 4


def test_what_breaks_inside_is_ours_with_its_cause(engine):
    with pytest.raises(EngineFailed, match=r"graph\.onnx broke off: ") as fault:
        engine.run(replaced(attention_mask=np.ones((1, 4), np.int64)))  # 5 tokens in all
    assert type(fault.value.__cause__).__module__.startswith("onnxruntime")
    assert engine.run(decoder_inputs(3, 2))["logits"].shape == (1, 1, 16), "still usable"


def test_after_its_block_it_does_not_run(tmp_path):
    with OrtBackend().open(written(tmp_path, decoder())) as engine:
        pass
    with pytest.raises(EngineFailed, match="closed"):
        engine.run(decoder_inputs(0, 1))


@pytest.mark.parametrize("content", [b"", b"no graph", decoder()[:-100]])
def test_what_is_no_graph_is_refused(tmp_path, content):
    with pytest.raises(EngineUnusable, match=r"graph\.onnx cannot be opened: ") as fault:
        OrtBackend().open(written(tmp_path, content))
    assert fault.value.__cause__ is not None


def test_a_graph_that_is_not_there(tmp_path):
    with pytest.raises(EngineUnusable, match="cannot be opened"):
        OrtBackend().open(tmp_path / "none.onnx")


def external(location, n_bytes=DIM * DIM * 4):
    weight = random_array(0, DIM, DIM)
    content = model(
        [node("MatMul", ["x", "weight"], ["y"])],
        [("x", "float32", [1, DIM])],
        [("y", "float32", [1, DIM])],
        {"weight": weight},
        {"weight": (location, 0)},
    )
    return content, weight.tobytes()[:n_bytes], weight


def test_external_data_is_found_beside_the_graph(tmp_path, monkeypatch):
    content, data, weight = external("graph.onnx.data")
    (tmp_path / "bundle").mkdir()
    graph = written(tmp_path / "bundle", content)
    (tmp_path / "bundle" / "graph.onnx.data").write_bytes(data)
    monkeypatch.chdir(tmp_path)
    x = random_array(1, 1, DIM)
    with OrtBackend().open(graph) as engine:
        np.testing.assert_allclose(engine.run({"x": x})["y"], x @ weight, atol=1e-5)


@pytest.mark.parametrize("case", ["absent", "short", "outside"])
def test_external_data_that_is_absent_short_or_outside_is_refused(tmp_path, case):
    import onnxruntime

    version = tuple(int(part) for part in onnxruntime.__version__.split(".")[:2])
    if case == "outside" and version < (1, 31):
        pytest.skip("ONNX Runtime 1.23 follows a path out of the folder; 1.31 refuses it")
    location = "../graph.onnx.data" if case == "outside" else "graph.onnx.data"
    content, data, _ = external(location, n_bytes=64 if case == "short" else 256)
    (tmp_path / "bundle").mkdir()
    graph = written(tmp_path / "bundle", content)
    if case != "absent":
        (tmp_path / "bundle" / location).write_bytes(data)
    with pytest.raises(EngineUnusable):
        OrtBackend().open(graph)


def variant(engine, **changes):
    fields = {"inputs": engine.inputs, "outputs": engine.outputs, **changes}
    return Variant("cpu", "cpu", "graph.onnx", "passed", "float32", **fields)


def test_the_graph_must_be_the_one_the_manifest_describes(engine, tmp_path):
    graph = tmp_path / "graph.onnx"
    renamed = [
        dataclasses.replace(
            spec, shape=tuple("any" if isinstance(size, str) else size for size in spec.shape)
        )
        for spec in engine.inputs
    ]
    with OrtBackend().open(graph, variant(engine, inputs=tuple(renamed))):
        pass  # names of free sizes are not compared
    wider = dataclasses.replace(engine.outputs[0], shape=(1, 1, 17))
    for changes, words in (
        ({"inputs": engine.inputs[:-1]}, "got the inputs past_key_values.0.value float32"),
        (
            {"outputs": (wider, *engine.outputs[1:])},
            r"logits float32 \[1, 1, 16\], expected logits",
        ),
    ):
        with pytest.raises(EngineUnusable, match=words):
            OrtBackend().open(graph, variant(engine, **changes))


def test_a_provider_that_is_not_there_is_named():
    with pytest.raises(BackendMissing, match="expected one of cpu, cuda"):
        backend_for("rocm")
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this wheel has CUDA")
    with pytest.raises(BackendMissing, match=r"has only .*cpu") as fault:
        backend_for("cuda")
    assert "edgestream[cuda]" in fault.value.hint
    assert backend_for("cpu", threads=2).provider == "cpu" and set(BACKENDS) == set(PROVIDERS)


class SteppedAside:
    """A session that the CPU runs, whatever was asked for."""

    def disable_fallback(self):
        """Nothing to disable."""

    def get_providers(self):
        return ["CPUExecutionProvider"]


def test_a_provider_that_steps_aside_is_no_engine(monkeypatch, tmp_path):
    import onnxruntime

    listed = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: listed)
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *_, **__: SteppedAside())
    with pytest.raises(EngineUnusable, match="got CPUExecutionProvider, expected CUDAExec"):
        OrtBackend("cuda").open(tmp_path / "graph.onnx")


def test_every_exception_of_the_library_is_mapped():
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    kinds = [k for k in vars(state).values() if isinstance(k, type) and issubclass(k, Exception)]
    assert len(kinds) > 10
    for kind in kinds:
        assert issubclass(kind, module.faults())
        mapped = module.mapped(kind("[ONNXRuntimeError] : 1 : FAIL : why"), "it", EngineFailed)
        assert isinstance(mapped, EngineError) and mapped.message.endswith("FAIL : why")


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("std::bad_alloc"), RuntimeError("Failed to allocate memory")],
)
def test_no_memory_left_has_its_own_name(error):
    assert isinstance(module.mapped(error, "it", EngineFailed), DeviceMemoryExhausted)


def test_a_session_does_not_spin_and_has_the_threads_that_were_asked_for():
    options = OrtBackend("cpu", 3)._options()
    assert options.intra_op_num_threads == 3 and options.inter_op_num_threads == 1
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    with pytest.raises(ValueError):
        OrtBackend("cpu", 0)


def test_nothing_is_written_to_stderr_when_it_fails(tmp_path):
    code = (
        "import sys; from pathlib import Path\n"
        "from edgestream.runtime.engines.ort import OrtBackend\n"
        "from edgestream.runtime.errors import EngineError\n"
        "try: OrtBackend().open(Path(sys.argv[1]))\n"
        "except EngineError: print('ours')\n"
    )
    graph = written(tmp_path, decoder()[:-100])
    done = subprocess.run(
        [sys.executable, "-c", code, graph], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("ours\n", "")


def test_a_size_without_a_name_may_be_anything(tmp_path):
    content = model(
        [node("Add", ["a", "b"], ["c"])],
        [("a", "float32", [""]), ("b", "float32", [""])],
        [("c", "float32", [""])],
    )
    with OrtBackend().open(written(tmp_path, content)) as engine:
        assert engine.inputs[0] == TensorSpec("a", "float32", ("a.0",))
        ones = np.ones(3, np.float32)
        assert engine.run({"a": ones, "b": ones[:1]})["c"].tolist() == [2, 2, 2]
