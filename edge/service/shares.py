"""How one budget of bytes is divided: the same share to each camera, the guest's beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...runtime.errors import SettingsInvalid

if TYPE_CHECKING:
    from ...runtime.manifest_values import Manifest
    from ..settings_tables import Settings

IMAGES_MOST = 4
"""Pictures that one request may send: as many as the context shows frames of a camera."""
WIDEST_VALUE_BYTES = 4
"""Of a number in a cache or an embed: float32 is the widest there is."""


@dataclass(frozen=True, slots=True)
class Shares:
    """Bytes of the budget.

    Attributes:
        budget: all of it.
        camera: of one camera: its memory and the cache of its language model.
        arena: of that, the cache.
        guest_memory: embeds of the pictures of one request; its cache is another arena.
    """

    budget: int
    camera: int
    arena: int
    guest_memory: int

    @property
    def memory(self) -> int:
        """Of one camera, what it may remember, bytes."""
        return self.camera - self.arena


def shares_of(settings: Settings, manifest: Manifest) -> Shares:
    """The budget of the settings, divided for a bundle.

    Raises:
        SettingsInvalid: a share has no room for a cache and a few frames.
    """
    service = settings.service
    arena, guest = _arena_bytes(settings, manifest), _guest_bytes(manifest)
    budget = int(service.budget_mb * 1e6)
    camera = (budget - arena - guest) // service.max_cameras
    if camera <= arena + guest:
        needed = (arena + guest) * (2 * service.max_cameras + 1)
        raise SettingsInvalid(
            f"service.budget_mb is {service.budget_mb:g}; a share of {max(camera, 0)} bytes for "
            f"each of {service.max_cameras} cameras has no room for a cache of {arena} bytes and "
            "frames",
            hint=f"set it to {needed / 1e6:.0f} or more, or lower service.max_cameras",
        )
    return Shares(budget, camera, arena, guest)


def _arena_bytes(settings: Settings, manifest: Manifest) -> int:
    """Of a cache, its positions and the scratch of its mover; see `Arena.n_bytes`."""
    cache = manifest.cache
    assert cache is not None, "check_service refuses a bundle without a language model"
    slots = settings.context.cache_slots or cache.capacity
    row = cache.kv_heads * cache.head_dim * slots * WIDEST_VALUE_BYTES
    axes = 1 if manifest.positions is None else manifest.positions.axes
    return 2 * cache.layers * row + 3 * row + 8 * axes * slots


def _guest_bytes(manifest: Manifest) -> int:
    assert manifest.embeddings is not None, "check_service refuses a bundle without one"
    width = manifest.embeddings.row_width
    return IMAGES_MOST * manifest.tokens_per_frame * width * WIDEST_VALUE_BYTES
