"""Motion: what changed from one frame to the next, as the gate reads it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Motion:
    """What changed from an earlier picture to that of this frame, from pixels alone.

    Lengths are px of the 112 x 112 picture that stage 0 looks at; light is measured on code values.

    Attributes:
        maps: (6, cells, cells) float32: u (right) and v (down) of the content, px; zero_cost and
            best_cost of the match, standard deviations of luma; d_luma and d_warm (red less blue),
            signed, shares of full scale.
        light_stops: median change of light, log2 of a ratio; below 0 is darker.
        light_share: share of the picture that light_stops holds for, [0, 1].
        level: mean luma now, grey levels, [0, 255].
        contrast: standard deviation of luma less its local mean now, grey levels, 0 or more.
        shift_px: (right, down) displacement of the whole content, px; (0, 0) unless most agree.
        agreement: share of recognisable cells that fit a common shift better than rest, [0, 1].
        found: share of recognisable cells found again in the frame before, [0, 1].
        palette: share of the picture's colours that stayed, change of light taken out, [0, 1].
        recognisable: share of cells with texture enough to be found again, [0, 1].
        moving: share of the picture that moved by itself, camera and light taken out, [0, 1].
        change: frame difference above the running median, in robust standard deviations, 0 or more.
        over_s: time between the two pictures, seconds, 0 or more; 0 of a first frame.
        noise: running noise of the camera, grey levels, 0 or more.
        is_first: there was no frame before.
        is_between: the next frame is compared with the same earlier picture: too little time has
            passed to tell movement of the scene from that of a slow camera.
        is_still: nothing changed but noise.
    """

    maps: NDArray[np.float32]
    light_stops: float = 0.0
    light_share: float = 0.0
    level: float = 0.0
    contrast: float = 0.0
    shift_px: tuple[float, float] = (0.0, 0.0)
    agreement: float = 0.0
    found: float = 1.0
    palette: float = 1.0
    recognisable: float = 0.0
    moving: float = 0.0
    change: float = 0.0
    over_s: float = 0.0
    noise: float = 0.0
    is_first: bool = False
    is_between: bool = False
    is_still: bool = False

    def __post_init__(self) -> None:
        view = self.maps.view()
        view.flags.writeable = False
        object.__setattr__(self, "maps", view)
