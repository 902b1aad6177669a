"""Tests that every family has: a class of a test file inherits them, beside its fixture `law`."""

from __future__ import annotations

import pytest

from .family_law import FamilyLaw


@pytest.mark.slow
class SaysWhatTheModelSays:
    """In full precision."""

    def test_logits_are_those_of_the_full_model(self, law: FamilyLaw) -> None:
        law.check_logits()

    def test_greedy_tokens_are_those_of_the_full_model(self, law: FamilyLaw) -> None:
        law.check_greedy()

    def test_an_eviction_leaves_what_attends_over_the_kept_tokens(self, law: FamilyLaw) -> None:
        law.check_eviction()


class AlsoQuantized(SaysWhatTheModelSays):
    """The same checkpoint passes the proof of int8 and int4 too."""

    def test_int8_and_int4_pass_the_proof(self, law: FamilyLaw) -> None:
        law.check_quantized()
