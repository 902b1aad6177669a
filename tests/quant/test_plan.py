"""Plans: who gets what and why, what it weighs, how it reads."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgestream.quant.nf4 import quantize_nf4
from edgestream.quant.numerics import fake_quantized
from edgestream.quant.plan import Rule, TensorInfo, default_rules, plan_for, stored_bytes
from edgestream.quant.schemes import FP32, INT8, SCHEMES
from edgestream.runtime.errors import SchemeUnknown

DECODER = (
    TensorInfo("model.embed_tokens.weight", (1000, 128), "embedding", stored_bits=16),
    TensorInfo("model.layers.0.self_attn.q_proj.weight", (128, 128), "linear", stored_bits=16),
    TensorInfo("model.layers.0.self_attn.q_proj.bias", (128,), "bias", stored_bits=16),
    TensorInfo("model.layers.0.input_layernorm.weight", (128,), "norm", stored_bits=16),
    TensorInfo("model.norm.weight", (128,), "norm", stored_bits=16),
    TensorInfo("lm_head.weight", (1000, 128), "head", stored_bits=16),
)
VISION = (
    TensorInfo("patches.weight", (64, 3, 16, 16), "conv"),
    TensorInfo("positions.weight", (196, 64), "embedding"),
    TensorInfo("layers.0.fc1.weight", (256, 64), "linear"),
    TensorInfo("layers.0.fc1.bias", (256,), "bias"),
)


def schemes_of(plan) -> list[str]:
    return [each.scheme.name for each in plan.decisions]


def test_a_decoder_by_default():
    plan = plan_for(DECODER, default_rules("decoder"))
    assert schemes_of(plan) == ["fp32", "int4-64", "fp32", "fp32", "fp32", "int4-64"]
    assert "file of their own" in plan.decisions[0].reason
    assert plan.idle_rules == ()
    assert plan.scheme_of("lm_head.weight") is SCHEMES["int4-64"]
    assert plan.bytes_before == 2 * (2 * 128_000 + 128 * 128 + 3 * 128)
    per_weight = (64 / 2 + 4) / 64
    assert plan.bytes_after == 4 * 128_000 + 4 * 3 * 128 + (128 * 128 + 128_000) * per_weight


def test_vision_by_default():
    plan = plan_for(VISION, default_rules("vision"))
    assert schemes_of(plan) == ["fp32", "fp32", "int8", "fp32"]
    assert plan.decisions[2].bytes_after == 256 * (64 + 4 + 1)
    assert schemes_of(plan_for(VISION, default_rules("connector"))) == schemes_of(plan)


@pytest.mark.parametrize("name", ["fp32", "int8-32", "int4-128"])
def test_the_decoder_takes_what_was_asked_for(name):
    plan = plan_for(DECODER, default_rules("decoder", SCHEMES[name]))
    assert schemes_of(plan)[1] == schemes_of(plan)[5] == name


@pytest.mark.parametrize(("part", "name"), [("vision", "int4-64"), ("decoder", "int8")])
def test_a_scheme_that_the_engine_cannot_run_is_refused(part, name):
    with pytest.raises(SchemeUnknown, match=f"'{name}' for {part}"):
        default_rules(part, SCHEMES[name])


def test_the_first_rule_that_matches_decides():
    narrow = Rule("*/lm_head.*", SCHEMES["int8-32"], "the head is worth more bits")
    later = Rule("head/*", SCHEMES["int4-32"])
    plan = plan_for(DECODER, (narrow, later, *default_rules("decoder")))
    head = plan.decisions[-1]
    assert (head.scheme.name, head.rule) == ("int8-32", narrow)
    assert head.reason == "the head is worth more bits"
    assert later in plan.idle_rules and "rule decided nothing: head/*" in plan.as_text()


def test_patterns_know_role_and_name_and_case():
    tensor = TensorInfo("layers.0.Up.weight", (64, 64), "linear")
    for pattern in ("*", "linear/*", "linear/layers.?.Up.*", "*/layers.0.*"):
        assert Rule(pattern, INT8).matches(tensor)
    for pattern in ("layers*", "head/*", "linear/layers.0.up.*", "linear"):
        assert not Rule(pattern, INT8).matches(tensor)


@pytest.mark.parametrize(
    ("shape", "scheme", "said"),
    [
        ((64,), "int8", "1-D, int8 needs a matrix"),
        ((8, 3, 2, 2), "int4-32", "4-D, int4-32 needs a matrix"),
        ((), "int8", "0-D"),
        ((512, 32), "int4-64", "rows of 32, narrower than a block of 64"),
        ((512, 1), "int8", "too narrow"),
    ],
)
def test_what_cannot_be_quantized_stays_float32_with_the_reason(shape, scheme, said):
    tensor = TensorInfo("odd", shape, "linear")
    plan = plan_for([tensor], [Rule("*", SCHEMES[scheme])])
    (decision,) = plan.decisions
    assert decision.scheme is FP32 and said in decision.reason
    assert decision.bytes_after == decision.bytes_before == 4 * tensor.weights
    assert said in plan.as_text()


@given(
    st.integers(1, 300),
    st.integers(1, 300),
    st.sampled_from(list(SCHEMES.values())),
)
def test_what_a_plan_allows_can_be_done_and_saves(out_dim, in_dim, scheme):
    plan = plan_for([TensorInfo("w", (out_dim, in_dim), "linear")], [Rule("*", scheme)])
    (decision,) = plan.decisions
    assert decision.bytes_after <= 4 * out_dim * in_dim
    assert (decision.scheme is scheme) == (not decision.reason)
    assert decision.bits_per_weight == 8 * decision.bytes_after / (out_dim * in_dim)
    weights = np.ones((out_dim, in_dim), np.float32)
    if decision.scheme.weights == "nf4":
        quantize_nf4(weights, decision.scheme.block)
    else:
        fake_quantized(weights, decision.scheme)


@pytest.mark.parametrize(
    ("name", "bits"),
    [
        ("fp32", 32),
        ("int8", 8 + 5 * 8 / 576),
        ("int8-32", 9),
        ("int4-32", 5),
        ("int4-64", 4.5),
        ("int4-128", (5 * 128 * 4 + 5 * 32) / 576),
    ],
)
def test_bits_a_weight(name, bits):
    assert 8 * stored_bytes((10, 576), SCHEMES[name]) / 5760 == pytest.approx(bits)


def test_sums_are_those_of_the_rows():
    plan = plan_for(DECODER, default_rules("decoder"))
    written = json.loads(json.dumps(plan.as_json()))
    assert sum(row["bytes_after"] for row in written["tensors"]) == written["bytes_after"]
    assert sum(row["bytes_before"] for row in written["tensors"]) == written["bytes_before"]
    assert [row["tensor"] for row in written["tensors"]] == [tensor.name for tensor in DECODER]
    assert written["tensors"][1] == {
        "tensor": "model.layers.0.self_attn.q_proj.weight",
        "role": "linear",
        "shape": [128, 128],
        "scheme": "int4-64",
        "rule": "linear/*",
        "reason": "",
        "bytes_before": 32768,
        "bytes_after": 9216,
        "bits_per_weight": 4.5,
    }
    weights = sum(tensor.weights for tensor in DECODER)
    assert plan.bits_per_weight == 8 * plan.bytes_after / weights


def test_the_table_is_aligned_and_may_begin_with_the_largest():
    plan = plan_for(DECODER, default_rules("decoder"))
    lines = plan.as_text().splitlines()
    assert len(lines) == len(DECODER) + 2
    column = lines[0].index("role")
    assert [line[column:].split()[0] for line in lines[1:-1]] == [t.role for t in DECODER]
    ends = {
        line.index(each) + len(each)
        for line, each in zip(lines[1:3], ("32.00", "4.50"), strict=True)
    }
    assert len(ends) == 1  # figures end at one column
    assert lines[-1].startswith("6 tensors") and "was 0.546 MB" in lines[-1]
    largest = plan.as_text(largest_first=True).splitlines()
    assert largest[1].startswith("model.embed_tokens") and largest[2].startswith("lm_head")
    assert sorted(largest) == sorted(lines)


def test_an_empty_plan():
    plan = plan_for((), default_rules("vision"))
    assert (plan.bytes_before, plan.bytes_after, plan.bits_per_weight) == (0, 0, 0.0)
    assert "0 tensors" in plan.as_text() and len(plan.idle_rules) == 2


def test_what_makes_no_plan_is_refused():
    with pytest.raises(ValueError, match=r"twice: lm_head\.weight"):
        plan_for([*DECODER, DECODER[-1]], default_rules("decoder"))
    with pytest.raises(ValueError, match="no rule for embedding/model"):
        plan_for(DECODER, [Rule("linear/*", INT8)])
    with pytest.raises(ValueError, match="role"):
        TensorInfo("w", (2, 2), "attention")
    with pytest.raises(ValueError, match="shape"):
        TensorInfo("w", (2, 0), "linear")
