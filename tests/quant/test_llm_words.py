"""The words of --llm: a scheme, exceptions by role or name, and their way through a manifest."""

from __future__ import annotations

import json

import pytest

from edgestream.quant.llm_words import (
    decoder_words,
    exceptions_as_json,
    exceptions_from_json,
    variant_name,
)
from edgestream.quant.plan import TensorInfo, default_rules, plan_for
from edgestream.runtime.errors import SchemeUnknown

TENSORS = [
    TensorInfo("model.layers.0.self_attn.q_proj.weight", (64, 64), "linear"),
    TensorInfo("model.layers.1.mlp.down_proj.weight", (64, 192), "linear"),
    TensorInfo("lm_head.weight", (500, 64), "head"),
]


def planned(words: str) -> list[str]:
    scheme, exceptions = decoder_words(words)
    plan = plan_for(TENSORS, (*exceptions, *default_rules("decoder", scheme)))
    return [decision.scheme.name for decision in plan.decisions]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("int4", ["int4-64", "int4-64", "int4-64"]),
        ("int4,head=int8", ["int4-64", "int4-64", "int8-32"]),
        ("int4-32,*.layers.0.*=int8-64,*down_proj*=fp32", ["int8-64", "fp32", "int4-32"]),
        ("int4,head/*=int8", ["int4-64", "int4-64", "int8-32"]),
        ("fp32,linear=int4-gptq", ["int4-64-gptq", "int4-64-gptq", "fp32"]),
    ],
)
def test_the_first_exception_that_matches_decides(words, expected):
    assert planned(words) == expected


@pytest.mark.parametrize("words", ["int4,head", "int4,=int8", "int4,head=", "int3", "", "int4,"])
def test_other_words_are_refused(words):
    with pytest.raises(SchemeUnknown) as caught:
        decoder_words(words)
    assert caught.value.exit_code == 2 and caught.value.hint


def test_exceptions_go_through_a_manifest_in_their_order():
    _, exceptions = decoder_words("int4,head=int8,*.layers.0.*=int4-32-gptq")
    written = json.loads(json.dumps(exceptions_as_json(exceptions)))
    read = exceptions_from_json(written)
    told = [(rule.pattern, rule.scheme.name) for rule in read]
    assert told == [("head/*", "int8-32"), ("*/*.layers.0.*", "int4-32-gptq")]
    assert exceptions_from_json(None) == ()


@pytest.mark.parametrize("value", [{"head": "int8"}, [{"weights": "int8"}], ["head"], 3])
def test_a_manifest_with_other_exceptions_is_refused(value):
    with pytest.raises(SchemeUnknown):
        exceptions_from_json(value)


@pytest.mark.parametrize(
    ("words", "name"),
    [("int4", "int4-64"), ("int4,head=int8", "int4-64-head-int8-32"),
     ("int4,head=int8,*.layers.0.*=int8", "int4-64-mixed")],
)  # fmt: skip
def test_variants_have_names_that_files_can_have(words, name):
    assert variant_name(*decoder_words(words)) == name
