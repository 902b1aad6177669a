"""The ladder: a variant is used only after it did on this device what it did at export."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from edgestream.runtime.bundle import open_bundle
from edgestream.runtime.engine import backend_for
from edgestream.runtime.engines.ladder import PROVIDERS, proven_engine
from edgestream.runtime.errors import BackendMissing, EngineFailed, EngineUnusable

from ..bundles import decoder_inputs, with_outputs, write_small_bundle

ROLE = "decoder"


@pytest.fixture
def bundle(tmp_path):
    return open_bundle(write_small_bundle(tmp_path / "small"))


def with_variants(bundle, *changes):
    """The bundle with copies of the decoder's variant, each changed, before its own one."""
    part = bundle.manifest.part(ROLE)
    copies = tuple(dataclasses.replace(part.variants[0], **change) for change in changes)
    changed = dataclasses.replace(part, variants=(*copies, *part.variants))
    parts = tuple(changed if one.role == ROLE else one for one in bundle.manifest.parts)
    return dataclasses.replace(bundle, manifest=dataclasses.replace(bundle.manifest, parts=parts))


def test_the_variant_that_passes_is_opened_and_runs(bundle):
    rung = proven_engine(bundle, ROLE, backend_for)
    assert (rung.variant.id, rung.refusals) == ("cpu", ())
    with rung.engine as engine:
        assert np.isfinite(engine.run(decoder_inputs(3, 2))["logits"]).all()


def test_what_is_not_installed_or_known_is_passed_over_and_told(bundle):
    changed = with_variants(bundle, {"id": "rocm", "provider": "rocm"})
    rung = proven_engine(changed, ROLE, backend_for, providers=("rocm", *PROVIDERS))
    with rung.engine:
        assert rung.variant.id == "cpu"
    (refusal,) = rung.refusals
    assert (refusal.variant, refusal.provider) == ("rocm", "rocm")
    assert "expected one of cpu, cuda" in refusal.why


def test_a_variant_without_golden_calls_is_not_proven(bundle):
    rung = proven_engine(with_variants(bundle, {"id": "new"}), ROLE, backend_for)
    with rung.engine:
        assert rung.variant.id == "cpu"
    assert [(one.variant, one.why) for one in rung.refusals] == [
        ("new", "it has no golden calls to be proven by")
    ]


def test_passing_here_is_the_proof(bundle):
    pending = with_variants(bundle, {"proof": "pending-device"})
    rung = proven_engine(pending, ROLE, backend_for)
    with rung.engine:
        assert rung.variant.proof == "pending-device"


class Watched:
    """A backend that tells what was opened and what was closed."""

    def __init__(self, provider):
        self.backend, self.provider, self.closed = backend_for("cpu"), provider, []

    def open(self, graph, variant):
        engine, closed = self.backend.open(graph, variant), self.closed

        class Closing(type(engine)):
            def __exit__(self, *fault):
                closed.append(variant.id)
                super().__exit__(*fault)

        engine.__class__ = Closing
        return engine


def test_one_that_computes_something_else_is_closed_and_refused(tmp_path):
    def change(calls):
        for call in calls:
            if call.role == ROLE and "logits" in call.outputs:
                yield with_outputs(call, logits=call.outputs["logits"] + 1)
            else:
                yield call

    bundle = open_bundle(
        write_small_bundle(tmp_path / "off", change_calls=lambda calls: list(change(calls)))
    )
    watched = Watched("cpu")
    with pytest.raises(EngineUnusable, match=r"cpu \(cpu\): golden call 'prefill 6': got logits"):
        proven_engine(bundle, ROLE, lambda provider: watched, providers=("cpu",))
    assert watched.closed == ["cpu"]


def test_the_next_rung_passes_over_what_failed_in_use(bundle):
    with pytest.raises(EngineUnusable, match="broke off before"):
        proven_engine(bundle, ROLE, backend_for, failed={"cpu"})
    rung = proven_engine(with_variants(bundle, {"id": "fast"}), ROLE, backend_for, failed={"fast"})
    with rung.engine:
        assert rung.variant.id == "cpu" and rung.refusals[0].why == "it broke off before"


def test_a_backend_that_fails_to_run_is_refused_in_its_own_words(bundle):
    class Broken:
        provider = "cpu"

        def open(self, graph, variant):
            raise EngineFailed("the card is gone")

    with pytest.raises(EngineUnusable, match="the card is gone"):
        proven_engine(bundle, ROLE, lambda provider: Broken())


def test_nothing_to_try_is_said(bundle):
    with pytest.raises(EngineUnusable, match="there is none"):
        proven_engine(bundle, "indexer", backend_for)
    with pytest.raises(EngineUnusable, match="expected one for cuda"):
        proven_engine(bundle, ROLE, backend_for, providers=("cuda",))
    assert PROVIDERS[-1] == "cpu"


def test_a_fault_of_ours_is_not_taken_for_a_refusal(bundle):
    def backends(provider):
        raise TypeError("a bug")

    with pytest.raises(TypeError):
        proven_engine(bundle, ROLE, backends)
    with pytest.raises(BackendMissing):
        backend_for("rocm")
