"""Key frames of the whole stream, the last frames and the last talk, inside one byte budget."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..errors import EngineNotFinite, StreamOutOfOrder
from ..recent import RecentMemory, RecentView, answered_turns
from ..values import Features, Float32, GateDecision, Response, UInt8
from .budget import Budget
from .dialogue import DialogueMemory
from .key_frame import OVERHEAD_BYTES, KeyFrame, MemoryView, Reason
from .key_frame_rules import KeyFrameRules as KeyFrameRules
from .key_frame_store import KeyFrameStore
from .memory_state import MemoryState, packed_recent, unpacked_recent

FRAME_OVERHEAD_BYTES = 256
"""Of one recent frame beside its embeds: a pair, a number and an array's header."""
TURN_OVERHEAD_BYTES = 256
"""Of one turn of dialogue beside its words: the object, a number and two strings' headers."""
_MAX_FRAMES, _MAX_TURNS = 256, 1024
_FLOAT16_MAX = float(np.finfo(np.float16).max)


class KeyFrameMemory:
    """Key frames of the whole stream inside a byte budget; see `Memory`.

    A fresh frame waits in the clip buffer, joins a live cluster with its clip, and ends, or its
    cluster's most typical frame does, in the long store. `covers` over these three adds up to the
    frames that were stepped, less those that were forgotten. Where the budget is full, in this
    order: neighbours of the long store merge, live clusters and the clip buffer move there early,
    and only then, or where they have more than their share, protected key frames (the first, those
    after a cut, those spoken at) merge too.

    `step` and `remember` belong to one thread; any thread may take a view at any time. A step
    costs the clustering of one frame on average, of clip_len at worst, whatever the stream's age.

    Args:
        rules: how key frames are made.
        budget_bytes: everything kept, objects included, at every step.
        dialogue_bytes: of the last talk, at most; never more than an eighth of the budget.

    Raises:
        SettingsInvalid: the budget is below one byte.
    """

    def __init__(
        self, rules: KeyFrameRules, budget_bytes: int, *, dialogue_bytes: int = 64_000
    ) -> None:
        self._rules, self._budget = rules, Budget(budget_bytes)
        usable = self._budget.usable_bytes
        self._recent_bytes = int(rules.recent_bytes_share * usable)
        frames = max(1, min(_MAX_FRAMES, self._recent_bytes // (4 * FRAME_OVERHEAD_BYTES)))
        talk_bytes = min(dialogue_bytes, usable // 8)
        turns = min(_MAX_TURNS, talk_bytes // (2 * TURN_OVERHEAD_BYTES))
        self._recent = RecentMemory(
            max_frames=frames,
            max_bytes=max(0, self._recent_bytes - frames * FRAME_OVERHEAD_BYTES),
            max_turns=0,
        )
        words = talk_bytes - turns * TURN_OVERHEAD_BYTES
        self._dialogue = DialogueMemory(max_turns=turns, max_bytes=max(1, words))
        self._store = KeyFrameStore(rules)
        self.reset()

    @property
    def budget_bytes(self) -> int:
        """What all of it may take."""
        return self._budget.budget_bytes

    @property
    def n_bytes(self) -> int:
        """Size of everything kept, bytes."""
        return self._budget.kept_bytes

    @property
    def frames(self) -> int:
        """Frames stepped since the beginning."""
        return self._frames

    @property
    def forgotten(self) -> int:
        """Of these, frames that those which were told to be forgotten stood for."""
        return self._forgotten

    def holders(self) -> dict[str, int]:
        """Bytes by what is kept; together they are `n_bytes`."""
        return self._budget.holders()

    def reset(self) -> None:
        """Forget everything."""
        self._recent.reset()
        self._dialogue.reset()
        self._store.clear()
        self._frames, self._last_s, self._follows_cut, self._forgotten = 0, 0.0, False, 0
        self._fit()

    def view(self) -> MemoryView:
        """What is kept now; the frames that wait in the clip buffer are key frames already."""
        recent, long, live, clip = self._published
        if live:
            long = tuple(sorted((*long, *live), key=lambda frame: frame.time_s))
        return MemoryView(recent, (*long, *clip), recent.dialogue)

    def step(
        self,
        features: Features,
        embeds: Float32,
        decision: GateDecision,
    ) -> None:
        """Take one frame in and publish a new view.

        Args:
            features: time_s, summary and is_fresh are read, and with `rules.thumbnails` also
                small, the picture; the time does not go back.
            embeds: (tokens, dim) float32; copied unless read-only.
            decision: a cut that opened protects this frame, or the next one that is fresh.

        Raises:
            StreamOutOfOrder: the frame is older than the last one.
            EngineNotFinite: embeds or summary hold NaN or infinity.
            SettingsInvalid: the budget has no room for one such frame.
        """
        thumbnail = features.small if self._rules.thumbnails else None
        self._check(features, embeds, thumbnail)
        self._frames, self._last_s = self._frames + 1, features.time_s
        self._follows_cut |= any(event.event == "cut" for event in decision.opened)
        self._recent.step(features, self._shared(embeds), decision)
        if features.is_fresh or self._store.is_empty:
            self._store.take(self._key_frame(features, embeds, thumbnail))
            self._follows_cut = False
        else:
            self._store.repeat()
        self._fit()

    def remember(self, said: Sequence[Response]) -> None:
        """Write what was said at the key frame nearest to what it was about; protect that one."""
        for turn in answered_turns(said):
            self._dialogue.add(turn)
        for response in said:
            text = response.text.strip()
            # What was said of the past is no description of the frame at which it was asked.
            is_of_it = response.is_final and response.context != "recall" and not response.is_cut
            if is_of_it and text:
                self._store.say(response.about_s[1], text)
        self._fit()

    def forget_before(self, time_s: float) -> None:
        """Let go of all that is about the time before, seconds, and publish a new view.

        Recent frames, dialogue, and key frames with what they stand for; of a younger key frame
        the words and the cluster's mean, where something older is in them. Names go on counting.
        """
        self._recent.forget_before(time_s)
        self._dialogue.forget_before(time_s)
        self._forgotten += self._store.forget_before(time_s)
        self._fit()

    def wipe(self) -> None:
        """Let go of everything; names go on counting."""
        self.forget_before(math.inf)

    def snapshot(self) -> MemoryState:
        """The state, to be put back by `restore`; nothing in it changes later."""
        recent = packed_recent(RecentView(self._recent.view().frames, self._dialogue.view()))
        store = self._store.snapshot()
        clock = {"frames": self._frames, "last_s": self._last_s, "follows_cut": self._follows_cut}
        clock["forgotten"] = self._forgotten
        fields = {**recent.fields, **store.fields, **clock}
        return MemoryState({**recent.arrays, **store.arrays}, fields)

    def restore(self, state: MemoryState) -> None:
        """Continue from a state as if nothing had been between, within the budget of this one."""
        recent = unpacked_recent(state)
        self._store.restore(state)
        if not self._rules.thumbnails:
            self._store.forget_pictures()
        self._recent.restore(recent)
        self._dialogue.restore(recent.dialogue)
        self._frames, self._last_s = state.fields["frames"], state.fields["last_s"]
        self._follows_cut = state.fields["follows_cut"]
        self._forgotten = state.fields.get("forgotten", 0)
        self._fit()

    def _check(self, features: Features, embeds: Float32, thumbnail: UInt8 | None) -> None:
        """Refuse a frame before anything changes."""
        if features.time_s < self._last_s:
            raise StreamOutOfOrder(
                f"the memory got a frame of {features.time_s:.3f} s, expected {self._last_s:.3f} s "
                "or later"
            )
        if not (np.isfinite(embeds).all() and np.isfinite(features.summary).all()):
            raise EngineNotFinite(
                f"the memory got NaN or infinity in the frame of {features.time_s:.3f} s, "
                "expected numbers",
                hint="run `edgestream verify` on the bundle",
            )
        share = self._rules.recent_bytes_share
        recent = (embeds.nbytes + FRAME_OVERHEAD_BYTES) * 4 / (3 * share)
        picture = 0 if thumbnail is None else thumbnail.nbytes
        key_frame = embeds.size * 2 + features.summary.size * 4 + picture + OVERHEAD_BYTES
        # The recent frames and the dialogue may fill their shares; what is left holds one.
        kept = key_frame / (1 - share - 1 / 8)
        self._budget.require(math.ceil(max(recent, kept)), "one frame")

    def _shared(self, embeds: Float32) -> Float32:
        """The newest recent embeds where these are the same, else an array of its own."""
        frames = self._recent.view().frames
        if frames and np.array_equal(frames[-1][1], embeds):
            return frames[-1][1]
        # A slice would keep the whole array alive that it was cut from.
        own = np.array(embeds, np.float32)
        own.flags.writeable = False
        return own

    def _key_frame(self, features: Features, embeds: Float32, thumbnail: UInt8 | None) -> KeyFrame:
        reason: Reason = "cut" if self._follows_cut else "cluster"
        half = np.clip(embeds, -_FLOAT16_MAX, _FLOAT16_MAX).astype(np.float16)
        return KeyFrame(
            f"k{self._frames - 1}",
            features.time_s,
            half,
            np.array(features.summary, np.float32),
            None if thumbnail is None else np.array(thumbnail),
            reason="first" if self._frames == 1 else reason,
        )

    def _fit(self) -> None:
        """Let go of what is too much, and publish."""
        recent, turns = self._recent.view(), self._dialogue.view()
        talk = self._dialogue.n_bytes + TURN_OVERHEAD_BYTES * len(turns)
        self._budget.hold(
            "recent", self._recent.n_bytes + FRAME_OVERHEAD_BYTES * len(recent.frames)
        )
        self._budget.hold("dialogue", talk)
        self._hold_key_frames()
        protected = int(self._rules.protected_bytes_share * self._budget.usable_bytes)
        while self._budget.room < 0 and self._store.shrink(protected):
            self._hold_key_frames()
        recent = RecentView(recent.frames, turns)
        self._published = recent, self._store.long, self._store.live, self._store.clip

    def _hold_key_frames(self) -> None:
        for name, n_bytes in self._store.n_bytes().items():
            self._budget.hold(name, n_bytes)
