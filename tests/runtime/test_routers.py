"""Routers: laws of the scores, twins in plain loops, and what the origin's formulas do instead."""

from __future__ import annotations

import math
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from edgestream.runtime import routers
from edgestream.runtime.engines.ort import OrtBackend
from edgestream.runtime.errors import EngineNotFinite, InputMismatch, SettingsInvalid
from edgestream.runtime.manifest import TensorSpec, Variant
from edgestream.runtime.memory.key_frame import KeyFrame, MemoryView
from edgestream.runtime.routers import (
    ATTENTION_TEMPERATURE,
    ROUTERS,
    QuestionRows,
    scores,
    unit_rows,
)

from ..onnx_graphs import model, node

COSINES = ("cos_sim_coarse", "cos_sim_fine", "cross-attn")
READS_NO_ENGINE = ("recency", *COSINES)


def view_of(embeds, times_s=None):
    frames = (
        KeyFrame(f"k{i}", float(i) if times_s is None else times_s[i], tokens, np.zeros(0))
        for i, tokens in enumerate(np.asarray(embeds, np.float16))
    )
    return MemoryView(key_frames=tuple(frames))


def question_of(rows, engine=None):
    return QuestionRows(np.asarray(rows, np.float32), engine)


def planted(seed=0, frames=12, at=7):
    """Random frames, of which one shows what the question's second of five words means."""
    rng = np.random.default_rng(seed)
    embeds, rows = rng.normal(size=(frames, 4, 64)), rng.normal(size=(5, 64))
    embeds[at, 2] = rows[1] + 0.2 * rng.normal(size=64)
    return question_of(rows), embeds


numbers = st.floats(-8, 8, width=16)
sizes = st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 3), st.integers(1, 6))


@st.composite
def asked(draw):
    """A question and embeds (frames, tokens, dim), rows of zeros among them."""
    frames, tokens, words, dim = draw(sizes)
    embeds = draw(npst.arrays(np.float16, (frames, tokens, dim), elements=numbers))
    rows = draw(npst.arrays(np.float32, (words, dim), elements=numbers))
    return question_of(rows), embeds


def unit(row):
    length = math.sqrt(sum(float(x) ** 2 for x in row))
    return [float(x) / length if length else 0.0 for x in row]


def cosine(one, other):
    return sum(a * b for a, b in zip(unit(one), unit(other), strict=True))


def coarse_in_loops(rows, embeds):
    return [cosine(rows.mean(0), tokens.astype(float).mean(0)) for tokens in embeds]


def fine_in_loops(rows, embeds):
    found = []
    for tokens in embeds:
        best = -math.inf
        for row in rows:
            for place, token in enumerate(tokens):
                all_frames = [cosine(row, other[place]) for other in embeds]
                best = max(best, cosine(row, token) - sum(all_frames) / len(embeds))
        found.append(best)
    return found


def attention_in_loops(rows, embeds):
    shares = [0.0] * len(embeds)
    for row in rows:
        masses = [
            [math.exp(cosine(row, token) / ATTENTION_TEMPERATURE) for token in tokens]
            for tokens in embeds
        ]
        whole = sum(map(sum, masses))
        shares = [s + sum(m) / whole / len(rows) for s, m in zip(shares, masses, strict=True)]
    return shares


TWINS = {
    "cos_sim_coarse": coarse_in_loops,
    "cos_sim_fine": fine_in_loops,
    "cross-attn": attention_in_loops,
}


@pytest.mark.medium
@given(asked(), st.sampled_from(COSINES))
def test_fast_is_as_in_plain_loops(case, router):
    question, embeds = case
    if router == "cos_sim_coarse":  # where a mean cancels out, its direction is rounding
        lengths = [abs(rows.astype(float).mean(0)).max() for rows in (question.rows, *embeds)]
        if any(0 < length < 1e-2 for length in lengths):
            return
    got = scores(router, question, view_of(embeds))
    np.testing.assert_allclose(got, TWINS[router](question.rows, embeds), atol=1e-4)


@pytest.mark.medium
@given(asked(), st.sampled_from(READS_NO_ENGINE))
def test_scores_are_finite_float32_one_for_each_key_frame(case, router):
    question, embeds = case
    got = scores(router, question, view_of(embeds))
    assert got.shape == (len(embeds),) and got.dtype == np.float32 and np.isfinite(got).all()


@pytest.mark.medium
@given(asked(), st.sampled_from(COSINES), st.randoms(use_true_random=False))
def test_in_another_order_the_scores_are_in_that_order(case, router, random):
    question, embeds = case
    order = list(range(len(embeds)))
    random.shuffle(order)
    got = scores(router, question, view_of(embeds[order]))
    # Sums in another order round otherwise.
    np.testing.assert_allclose(got, scores(router, question, view_of(embeds))[order], atol=1e-5)


def test_recency_reads_the_times_alone():
    question, embeds = planted()
    view = view_of(embeds[:3], [2.0, 3.5, 10.0])
    np.testing.assert_allclose(scores("recency", question, view), [-8.0, -6.5, 0.0])


@pytest.mark.medium
@given(
    asked(),
    st.sampled_from(COSINES),
    st.floats(2.0**-100, 2.0**100, width=32),
    st.sampled_from([0.25, 4.0, 64.0]),
)
def test_lengths_do_not_count(case, router, of_question, of_frames):
    question, embeds = case
    embeds = np.where(np.abs(embeds) < 0.1, 0, embeds)  # powers of two keep float16 exact
    rows = np.where(np.abs(question.rows) < 0.1, 0, question.rows)
    if router == "cos_sim_coarse" and 0 < abs(rows.astype(float).mean(0)).max() < 1e-2:
        return  # where a mean cancels out, its direction is rounding
    got = scores(router, question_of(rows * np.float32(of_question)), view_of(embeds * of_frames))
    np.testing.assert_allclose(got, scores(router, question_of(rows), view_of(embeds)), atol=1e-4)


@pytest.mark.medium
@given(asked(), st.sampled_from(COSINES), st.integers(2, 5))
def test_equal_frames_get_equal_scores(case, router, count):
    question, embeds = case
    got = scores(router, question, view_of(np.repeat(embeds[:1], count, axis=0)))
    np.testing.assert_allclose(got, np.full(count, got[0]), atol=1e-6)
    if router == "cos_sim_fine":  # and nothing tells them apart
        np.testing.assert_allclose(got, np.zeros(count), atol=1e-6)


@pytest.mark.parametrize("router", READS_NO_ENGINE)
def test_zeros_are_no_trouble(router):
    for rows, embeds in [
        (np.zeros((2, 6)), np.ones((3, 4, 6))),
        (np.ones((2, 6)), np.zeros((3, 4, 6))),
        (np.zeros((2, 6)), np.zeros((3, 4, 6))),
    ]:
        got = scores(router, question_of(rows), view_of(embeds))
        assert np.isfinite(got).all() and (router == "recency" or np.ptp(got) == 0)


@pytest.mark.parametrize("router", COSINES)
def test_the_greatest_numbers_there_are_do_not_overflow(router):
    largest = np.full((3, 2, 576), 65504.0)
    got = scores(router, question_of(np.full((2, 576), 3e38)), view_of(largest))
    assert np.isfinite(got).all()


@pytest.mark.parametrize("router", ROUTERS)
def test_of_nothing_nothing(router):
    assert scores(router, question_of(np.ones((1, 4))), MemoryView()).shape == (0,)


@pytest.mark.parametrize("router", ["cos_sim_fine", "cross-attn"])
@pytest.mark.parametrize("seed", range(5))
def test_one_telling_word_among_many_finds_its_frame(router, seed):
    question, embeds = planted(seed)
    assert scores(router, question, view_of(embeds)).argmax() == 7


def test_what_all_frames_have_in_common_is_no_evidence():
    """A background token that a word fits better than anything does not hide the evidence."""
    question, embeds = planted()
    embeds[:, 0] = question.rows[3]
    found = scores("cos_sim_fine", question, view_of(embeds))
    assert found.argmax() == 7
    keys, rows = unit_rows(embeds.astype(np.float32)), unit_rows(question.rows)
    best = np.einsum("sd,npd->snp", rows, keys).max(axis=(0, 2))  # not taken off: all are alike
    assert np.ptp(best) < 1e-6


def test_attention_differs_between_frames_where_the_origins_does_not():
    question, embeds = planted()
    keys, rows = unit_rows(embeds.astype(np.float32)), unit_rows(question.rows)
    weights = np.exp(np.einsum("sd,npd->snp", rows, keys) / np.sqrt(64))
    origin = (weights / weights.sum(axis=2, keepdims=True)).mean(axis=0).sum(axis=1)
    np.testing.assert_allclose(origin, np.ones(12), atol=1e-6)  # whatever the frames show
    share = scores("cross-attn", question, view_of(embeds))
    assert share.sum() == pytest.approx(1.0, abs=1e-5)
    assert share.argmax() == 7 and share[7] > 2 * np.sort(share)[-2]
    # Divided by the root of the dimension it would hardly differ, even over all frames together.
    flat = weights.sum(axis=2) / weights.sum(axis=(1, 2))[:, None]
    assert flat.mean(axis=0).max() < 1.1 / 12


def test_unknown_routers_and_other_shapes_are_refused():
    question = question_of(np.ones((2, 4)))
    with pytest.raises(SettingsInvalid, match="'best', expected one of recency, cos_sim_coarse"):
        scores("best", question, view_of(np.ones((1, 2, 4))))
    with pytest.raises(InputMismatch, match="same dim"):
        scores("cos_sim_fine", question, view_of(np.ones((1, 2, 5))))
    frames = (*view_of(np.ones((1, 2, 4))).key_frames, *view_of(np.ones((1, 3, 4))).key_frames)
    with pytest.raises(InputMismatch, match=r"\(2, 4\), \(3, 4\)"):
        scores("cos_sim_fine", question, MemoryView(key_frames=frames))


@pytest.mark.parametrize(
    "rows", [np.ones(4), np.ones((0, 4)), np.ones((2, 0)), [[np.nan]], [[np.inf]]]
)
def test_a_question_has_finite_rows(rows):
    with pytest.raises(ValueError, match=r"QuestionRows\.rows"):
        question_of(rows)


@pytest.fixture
def indexer(tmp_path):
    """A graph: product of the question's mean row and the frame's mean token."""
    nodes = [
        node("ReduceMean", ["question"], ["row"], axes=[0], keepdims=0),
        node("ReduceMean", ["embeds"], ["keys"], axes=[1], keepdims=0),
        node("MatMul", ["keys", "row"], ["scores"]),
    ]
    ins = [("question", "float32", ("words", 64)), ("embeds", "float32", ("frames", "tokens", 64))]
    outs = [("scores", "float32", ("frames",))]
    (tmp_path / "indexer.onnx").write_bytes(model(nodes, ins, outs))
    specs = ([TensorSpec(*spec) for spec in side] for side in (ins, outs))
    inputs, outputs = map(tuple, specs)
    variant = Variant(
        id="cpu-fp32", provider="cpu", file="indexer.onnx", proof="passed", io_dtype="float32",
        kv_dtype=None, scheme={}, inputs=inputs, outputs=outputs,
    )  # fmt: skip
    with OrtBackend().open(tmp_path / "indexer.onnx", variant) as engine:
        yield engine


def test_the_indexer_is_the_bundles_own_graph(indexer):
    question, embeds = planted()
    embeds = embeds.astype(np.float16).astype(np.float32)
    got = scores("indexer", question_of(question.rows, indexer), view_of(embeds))
    want = embeds.mean(axis=1) @ question.rows.mean(axis=0)
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_without_an_indexer_it_is_refused_in_one_sentence():
    with pytest.raises(SettingsInvalid, match="bundle that has no indexer part") as refusal:
        scores("indexer", question_of(np.ones((2, 4))), view_of(np.ones((1, 2, 4))))
    assert "cos_sim_fine" in refusal.value.hint


@pytest.mark.parametrize(
    ("outputs", "error"),
    [
        ({"other": np.zeros(3, np.float32)}, InputMismatch),
        ({"scores": np.zeros((3, 1), np.float32)}, InputMismatch),
        ({"scores": np.array([0, np.nan, 1], np.float32)}, EngineNotFinite),
    ],
)
def test_an_indexer_that_gives_something_else_is_refused(outputs, error):
    engine = SimpleNamespace(run=lambda arrays: outputs)
    with pytest.raises(error, match="the indexer gave"):
        scores("indexer", question_of(np.ones((2, 4)), engine), view_of(np.ones((3, 2, 4))))


@pytest.mark.medium
@pytest.mark.parametrize("router", COSINES)
def test_blocks_of_any_size_give_the_same_and_take_little(router, monkeypatch):
    question, embeds = planted(frames=50)
    whole = scores(router, question, view_of(embeds))
    for n_bytes in (1, 5000):
        monkeypatch.setattr(routers, "BLOCK_BYTES", n_bytes)
        np.testing.assert_allclose(scores(router, question, view_of(embeds)), whole, atol=1e-5)
    monkeypatch.undo()
    embeds = np.random.default_rng(0).normal(size=(800, 20, 256))
    view, question = view_of(embeds), question_of(np.ones((30, 256)))
    tracemalloc.start()
    scores(router, question, view)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 6e6 < view.n_bytes
