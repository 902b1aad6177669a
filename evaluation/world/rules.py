"""Rules of the rendered world: how often what happens, how large things are, what is hard."""

from __future__ import annotations

from dataclasses import dataclass

TRAINING_SEEDS_END = 2**31
"""Seeds of training and of choosing thresholds lie below; those of the frozen set above."""
SIDE_PX = 112
"""Side of a picture of the world, px: what stage 0 and the reference assistant look at."""
ACTIONS = (
    "cut",
    "fade",
    "dark",
    "bright",
    "pan",
    "zoom",
    "shake",
    "blur",
    "enter_stop",
    "enter_leave",
    "enter_meet",
    "start_stop",
    "start_leave",
    "start_meet",
)
WEIGHTS = (0.96, 1.0, 1.02, 0.99, 1.12, 1.2, 1.02, 0.88, 0.16, 0.24, 2.0, 0.38, 0.45, 2.3)
"""What can be begun. A movement begins and ends: `enter_leave` is two events, `fade` too."""


@dataclass(frozen=True, slots=True)
class WorldRules:
    """Rules of a clip; the defaults are for training.

    Attributes:
        fps: frames per second.
        pause_frames: mean frames between the end of one action and the beginning of the next.
        action_weights: of ACTIONS, in that order. These make every event type about equally
            frequent: some actions often find no room, and some are two or three events.
        hard_negatives: share of clips with one of the hard negatives.
        colourless: share of movers without a single colour.
        width_share: least and greatest width of a thing, shares of the picture's.
        opening_black: share of clips that begin with a black picture.
        letterbox: share of clips with black bars.
        jpeg: share of clips that went through JPEG.
        noisy: share of clips with sensor noise.
        first_look: number of the first background and the first thing of the banks.
        looks: how many of each there are; memory: 0.4 MB a background.
        questions: asked about a clip.
        state_share: of the questions; likewise recent_share; the others are long.
        unanswerable: share of questions of which the answer is "I cannot tell.".
        unseen: share of questions in a phrasing that is not for training.
    """

    fps: float = 4.0
    pause_frames: float = 5.6
    action_weights: tuple[float, ...] = WEIGHTS
    hard_negatives: float = 0.4
    colourless: float = 0.3
    width_share: tuple[float, float] = (0.05, 0.6)
    opening_black: float = 0.08
    letterbox: float = 0.1
    jpeg: float = 0.35
    noisy: float = 0.7
    first_look: int = 0
    looks: int = 192
    questions: int = 12
    state_share: float = 0.4
    recent_share: float = 0.3
    unanswerable: float = 0.15
    unseen: float = 0.0

    def __post_init__(self) -> None:
        if len(self.action_weights) != len(ACTIONS) or min(self.action_weights) < 0:
            raise ValueError(
                f"got {len(self.action_weights)} action weights, expected {len(ACTIONS)} of 0 or "
                "more, in the order of ACTIONS"
            )
        if not 0 < self.width_share[0] < self.width_share[1] <= 0.6:
            raise ValueError(f"got widths {self.width_share}, expected two rising up to 0.6")
        if self.fps <= 0 or self.looks < 1 or self.questions < 0 or self.pause_frames < 0:
            raise ValueError(f"got {self}, expected a rate, looks, questions of 0 or more")
