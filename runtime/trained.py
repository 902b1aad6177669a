"""Whether a bundle's weights have learned something, and what the user is told of them."""

from __future__ import annotations

from collections.abc import Sequence

from .bundle import Bundle
from .engines.ladder import Refusal
from .errors import UntrainedModel
from .records import Record, warning
from .speaking import SpeakingRules


def check_trained(bundle: Bundle, speaking: SpeakingRules) -> None:
    """Refuse a model that has learned nothing, unless the rules say that it may speak.

    Raises:
        UntrainedModel: the manifest says that its weights look random.
    """
    if bundle.manifest.weights_look_random and not speaking.allow_random_weights:
        raise UntrainedModel(
            f"{bundle.folder.name}: the weights look random, so its words are no answers; "
            "expected a model that has learned something",
            hint="export a trained checkpoint; `edgestream bench` measures this one's speed",
        )


def notes_of(bundle: Bundle, refusals: Sequence[Refusal]) -> tuple[Record, ...]:
    """What the user should know of engines and weights, as `warning` records."""
    # A provider that is not here is not here for every part.
    told = {(one.provider, one.why): one for one in reversed(refusals)}
    notes = [
        warning("variant-refused", f"{one.variant} ({one.provider}) is not used: {one.why}")
        for one in reversed(told.values())
    ]
    if bundle.manifest.weights_look_random is None:
        notes.append(
            warning("weights-unknown", "this bundle does not say whether its model was trained")
        )
    elif bundle.manifest.weights_look_random:
        notes.append(
            warning("weights-look-random", "the weights look random: these words are no answers")
        )
    return tuple(notes)
