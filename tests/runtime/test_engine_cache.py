"""Compiled engines: found by what they were made of, whole or not there, within their bound."""

from __future__ import annotations

import dataclasses
import json
import os
import threading
import types

import pytest

from edgestream.runtime import engine_cache as module
from edgestream.runtime.engine_cache import EngineCache, EngineKey, data_of, engine_key
from edgestream.runtime.errors import OutputUnwritable

KEY = EngineKey("decoder", "0" * 64, (("tokens", (1, 2, 3)),), "tensorrt", "10.3", "sm86")


def keys(count):
    return [dataclasses.replace(KEY, graph_sha256=f"{at:064}") for at in range(count)]


def test_what_was_published_is_found(tmp_path):
    cache = EngineCache(tmp_path / "engines")
    assert cache.find(KEY) is None
    place = cache.publish(KEY, b"an engine")
    assert cache.find(KEY).tobytes() == b"an engine"
    facts = json.loads((place / "engine.json").read_text())
    assert facts["sizes"] == {"tokens": [1, 2, 3]} and facts["bytes"] == 9
    assert cache.publish(KEY, b"another") == place and cache.find(KEY).tobytes() == b"another"


@pytest.mark.parametrize(
    "change",
    [
        {"graph_sha256": "1" * 64},
        {"sizes": (("tokens", (1, 2, 4)),)},
        {"module": "tensorrt_rtx"},
        {"version": "10.4"},
        {"target": "sm87"},
    ],
)
def test_another_one_is_not_this_one(tmp_path, change):
    cache = EngineCache(tmp_path)
    cache.publish(KEY, b"an engine")
    other = dataclasses.replace(KEY, **change)
    assert other.name != KEY.name and cache.find(other) is None


def test_the_key_is_of_every_byte_of_graph_and_data(tmp_path):
    trt = types.SimpleNamespace(__name__="tensorrt", __version__="10.3")
    graph = tmp_path / "decoder.onnx"
    graph.write_bytes(b"a graph")
    (tmp_path / "decoder.onnx.data").write_bytes(b"weights")

    def key():
        return engine_key(graph, data_of(graph), {"tokens": [1, 2, 3]}, trt, "sm86")

    first = key()
    assert (first.graph, first.sizes) == ("decoder", (("tokens", (1, 2, 3)),)) and first == key()
    (tmp_path / "decoder.onnx.data").write_bytes(b"weightS")
    second = key()
    graph.write_bytes(b"a grapH")
    assert len({first.name, second.name, key().name}) == 3
    (tmp_path / "decoder.onnx.data").unlink()
    assert data_of(graph) == ()


@pytest.mark.parametrize("damage", ["flipped", "short", "no facts", "facts of another kind"])
def test_a_damaged_engine_is_removed_and_not_found(tmp_path, damage):
    cache = EngineCache(tmp_path)
    place = cache.publish(KEY, b"an engine")
    blob, facts = place / "engine", place / "engine.json"
    if damage == "flipped":
        blob.write_bytes(b"an enginE")
    elif damage == "short":
        blob.write_bytes(b"")
    elif damage == "no facts":
        facts.write_text("{")
    else:
        facts.write_text("[]")
    assert cache.find(KEY) is None and not place.exists()
    cache.publish(KEY, b"an engine")
    assert cache.find(KEY).tobytes() == b"an engine"


def test_what_was_not_used_for_longest_goes_first(tmp_path):
    cache, made = EngineCache(tmp_path, most_bytes=30), keys(4)
    for at, key in enumerate(made[:3]):
        os.utime(cache.publish(key, bytes(10)), (at, at))
    cache.find(made[0])  # used just now
    cache.publish(made[3], bytes(10))
    assert [cache.find(key) is not None for key in made] == [True, False, True, True]
    assert sum(cache.entries().values()) == 30


def test_the_bound_is_kept_at_its_edge(tmp_path):
    cache, (first, second, third) = EngineCache(tmp_path, most_bytes=20), keys(3)
    cache.publish(first, bytes(10))
    cache.publish(second, bytes(10))
    assert len(cache.entries()) == 2
    assert cache.publish(third, bytes(21)) is None and len(cache.entries()) == 2
    cache.publish(third, bytes(20))
    assert list(cache.entries()) == [tmp_path / third.name]


def test_an_engine_that_is_open_can_be_read_after_it_went(tmp_path):
    cache = EngineCache(tmp_path)
    cache.publish(KEY, b"an engine")
    blob = cache.find(KEY)
    cache.remove(KEY)
    cache.remove(KEY)
    assert blob.tobytes() == b"an engine" and cache.find(KEY) is None


def test_what_else_lies_there_is_left_alone(tmp_path):
    cache = EngineCache(tmp_path, most_bytes=1)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("hello")
    cache.publish(KEY, b"!")
    assert (tmp_path / "notes" / "mine.txt").exists() and len(cache.entries()) == 1


def test_several_publish_at_once_and_one_is_whole(tmp_path):
    cache, faults = EngineCache(tmp_path), []

    def publish(at):
        try:
            cache.publish(KEY, bytes([at]) * 5000)
        except Exception as fault:
            faults.append(fault)

    threads = [threading.Thread(target=publish, args=(at,)) for at in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    blob = cache.find(KEY).tobytes()
    assert len(blob) == 5000 and len(set(blob)) == 1


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputUnwritable, match="engines cannot be kept") as fault:
        EngineCache(tmp_path / "file" / "engines").publish(KEY, b"!")
    assert "engine.engines_dir" in fault.value.hint


def test_it_lies_in_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert module.default_folder() == tmp_path / "edgestream" / "engines"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert module.default_folder() == tmp_path / ".cache" / "edgestream" / "engines"
