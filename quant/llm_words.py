"""What `--llm` says: a scheme for the decoder, and exceptions for some of its matrices.

    int4                                4 bits for all
    int4,head=int8                      8 bits for the layer to the vocabulary
    int4,*.layers.0.*=int8,*.down_proj.*=int8-64

Left of `=` stands a role (`head`, `linear`) or a pattern of tensor names with the shell's * and ?,
as llama.cpp's `--tensor-type` has it; the first exception that matches decides.
"""

from __future__ import annotations

from typing import Any, get_args

from ..runtime.errors import SchemeUnknown
from .plan import Role, Rule
from .schemes import Scheme, scheme_from_json, scheme_named


def decoder_words(words: str) -> tuple[Scheme, tuple[Rule, ...]]:
    """The scheme of the decoder and its exceptions, in their order.

    Raises:
        SchemeUnknown: a scheme is none that the decoder can have, or an exception has no `=`.
    """
    first, *more = words.split(",")
    return scheme_named(first, "decoder"), tuple(_exception(one) for one in more)


def exceptions_as_json(rules: tuple[Rule, ...]) -> list[dict[str, Any]]:
    """`scheme.except` of a manifest."""
    return [{"tensors": rule.pattern, **rule.scheme.as_json()} for rule in rules]


def exceptions_from_json(value: Any) -> tuple[Rule, ...]:
    """The exceptions of a manifest's scheme; none where there is no `except`.

    Raises:
        SchemeUnknown: it is not as `exceptions_as_json` writes it.
    """
    try:
        return tuple(Rule(str(one["tensors"]), scheme_from_json(one)) for one in value or ())
    except (TypeError, KeyError, AttributeError) as error:
        raise SchemeUnknown(f"got a scheme whose `except` is {value!r}") from error


def variant_name(scheme: Scheme, rules: tuple[Rule, ...]) -> str:
    """What files and variants are called: `int4-64`, `int4-64-head-int8-32`, `int4-64-mixed`."""
    if not rules:
        return scheme.name
    if len(rules) == 1 and rules[0].pattern == "head/*":
        return f"{scheme.name}-head-{rules[0].scheme.name}"
    return f"{scheme.name}-mixed"


def _exception(words: str) -> Rule:
    where, equals, name = words.partition("=")
    if not (where and equals):
        raise SchemeUnknown(
            f"got {words!r} behind the decoder's scheme, expected NAME=SCHEME",
            hint="for example --llm int4,head=int8",
        )
    scheme = scheme_named(name, "decoder")
    pattern = f"{where}/*" if where in get_args(Role) else where if "/" in where else f"*/{where}"
    return Rule(pattern, scheme, "as --llm says")
