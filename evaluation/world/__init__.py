"""The rendered world: clips whose truth is known, made of nothing but numbers (numpy only)."""

from .clip import Clip, render_clip
from .event_types import ATTRIBUTES, EVENT_TYPES, WorldEvent
from .frozen import FrozenSet, frozen_clips, frozen_set
from .labels import ClipLabels
from .questions import WorldQuestion
from .rules import TRAINING_SEEDS_END, WorldRules
from .sentences import ReadSentence, event_sentence, read_sentence, scene_sentence
from .words import WORDS, words_of

__all__ = [
    "ATTRIBUTES",
    "EVENT_TYPES",
    "TRAINING_SEEDS_END",
    "WORDS",
    "Clip",
    "ClipLabels",
    "FrozenSet",
    "ReadSentence",
    "WorldEvent",
    "WorldQuestion",
    "WorldRules",
    "event_sentence",
    "frozen_clips",
    "frozen_set",
    "read_sentence",
    "render_clip",
    "scene_sentence",
    "words_of",
]
