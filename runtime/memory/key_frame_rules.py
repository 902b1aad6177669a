"""How key frames are made: the parameters of the seed, and two of our own."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import SettingsInvalid


@dataclass(frozen=True, slots=True)
class KeyFrameRules:
    """How key frames are made; the first four are those of the key-frame-router VLM, the seed.

    Attributes:
        clip_len: frames that are clustered at a time. The seed encodes and adds so many at once.
            Here they wait, one by one, in the clip buffer, where what is said can still be tied
            to the very frame; still frames only count for the frame they repeat.
        key_frame_buffer_size: live clusters that a frame may still join. Beyond it the seed moves
            the oldest one to a list without end; here the one joined longest ago goes to a long
            store that merges neighbours in time.
        key_frame_match_ratio: a frame joins the live cluster that is most alike if the mean cosine
            of its tokens with the cluster's mean, position by position, is at least this, [-1, 1].
        max_frame_set_num: a cluster with so many frames takes no more. In the seed a frame that
            fits it best opens a new one; here the next best that has room may take it. The seed
            keeps all members; here the most typical frame stays.
        thumbnails: keep a picture with each key frame, where `step` is handed one.
        recent_bytes_share: of the budget, for the last frames as they were read, (0, 0.75].
        protected_bytes_share: of the budget; protected key frames go last within it, and merge
            among themselves above it, or what nobody spoke at would not be kept at all, (0, 1].

    Raises:
        SettingsInvalid: one is out of its range.
    """

    clip_len: int = 8
    key_frame_buffer_size: int = 5
    key_frame_match_ratio: float = 0.6
    max_frame_set_num: int = 5
    thumbnails: bool = False
    recent_bytes_share: float = 0.25
    protected_bytes_share: float = 0.5

    def __post_init__(self) -> None:
        for name in ("clip_len", "key_frame_buffer_size", "max_frame_set_num"):
            if getattr(self, name) < 1:
                raise SettingsInvalid(f"{name} got {getattr(self, name)}, expected 1 or more")
        if not -1 <= self.key_frame_match_ratio <= 1:
            got = self.key_frame_match_ratio
            raise SettingsInvalid(f"key_frame_match_ratio got {got}, expected a number in [-1, 1]")
        if not 0 < self.recent_bytes_share <= 0.75:
            got = self.recent_bytes_share
            raise SettingsInvalid(f"recent_bytes_share got {got}, expected a share in (0, 0.75]")
        if not 0 < self.protected_bytes_share <= 1:
            got = self.protected_bytes_share
            raise SettingsInvalid(f"protected_bytes_share got {got}, expected a share in (0, 1]")
