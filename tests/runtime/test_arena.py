"""The arena: constant size, zero beyond its length, keys where direct rotation would put them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgestream.runtime.arena import Arena
from edgestream.runtime.engines.ort import OrtBackend
from edgestream.runtime.errors import ContextTooSmall, EngineFailed, EngineUnusable
from edgestream.runtime.manifest import CacheShape, Positions, TensorSpec

LAYERS, HEADS, CAPACITY, DIM, THETA = 2, 2, 40, 12, 10_000.0
SHAPE = CacheShape(LAYERS, HEADS, DIM, CAPACITY)
KINDS = {
    "one axis": Positions(1, THETA),
    "sectioned": Positions(3, THETA, (2, 3, 1)),
    "interleaved": Positions(3, THETA, (2, 2, 2), extra={"interleaved": True}),
}
# Which of the three numbers of a position turns each of the six pairs, written down by hand.
AXIS_OF_PAIR = {
    "one axis": [0, 0, 0, 0, 0, 0],
    "sectioned": [0, 0, 1, 1, 1, 2],
    "interleaved": [0, 1, 2, 0, 1, 2],
}


def direct(kind, raw, positions):
    """Unturned keys (..., slots, DIM) turned to positions [axes, slots], as complex numbers."""
    half = DIM // 2
    frequencies = THETA ** -(np.arange(half) / half)
    angles = np.stack([positions[axis] for axis in AXIS_OF_PAIR[kind]], -1) * frequencies
    turned = (raw[..., :half] + 1j * raw[..., half:]) * np.exp(1j * angles)
    return np.concatenate([turned.real, turned.imag], -1)


class Filled:
    """An arena, and beside it what it must hold: unturned keys, values, positions."""

    def __init__(self, kind="one axis", turn=None, dtype="float32", seed=0):
        self.kind, self.random = kind, np.random.default_rng(seed)
        self.arena = Arena(SHAPE, KINDS[kind], turn=turn, dtype=dtype)
        self.raw = np.zeros((LAYERS, HEADS, 0, DIM))
        self.values = np.zeros((LAYERS, HEADS, 0, DIM), dtype)
        self.positions = np.zeros((KINDS[kind].axes, 0), np.int64)

    def append(self, count, positions=None):
        """What a decoder does."""
        self.arena.reserve(count)
        first, axes = self.arena.length, len(self.positions)
        used = slice(first, first + count)
        given = positions
        if positions is None:
            start = self.arena.next_position
            positions = np.tile(np.arange(start, start + count), (axes, 1))
        raw = self.random.standard_normal((LAYERS, HEADS, count, DIM))
        values = self.random.standard_normal(raw.shape).astype(self.values.dtype)
        keys = direct(self.kind, raw, positions)
        for layer in range(LAYERS):
            self.arena.tensors()[f"{layer}.key"][0, :, used] = keys[layer]
            self.arena.tensors()[f"{layer}.value"][0, :, used] = values[layer]
        self.arena.advance(count, given)
        self.raw = np.concatenate([self.raw, raw], 2)
        self.values = np.concatenate([self.values, values], 2)
        self.positions = np.concatenate([self.positions, positions], 1)

    def evict(self, keep, new_positions=None):
        self.arena.evict(keep, new_positions)
        self.raw, self.values = self.raw[:, :, keep], self.values[:, :, keep]
        self.positions = np.array(self.arena.positions[:, : len(keep)])

    def error(self):
        """Largest error of a key; values, positions and what lies beyond must be exact."""
        arena, length = self.arena, self.raw.shape[2]
        assert arena.length == length
        assert (arena.positions[:, :length] == self.positions).all()
        assert not arena.positions[:, length:].any()
        keys = direct(self.kind, self.raw, self.positions)
        worst = 0.0
        for layer in range(LAYERS):
            key, value = arena.tensors()[f"{layer}.key"], arena.tensors()[f"{layer}.value"]
            assert (value[0, :, :length] == self.values[layer]).all()
            assert not key[0, :, length:].any() and not value[0, :, length:].any()
            if length:
                worst = max(worst, float(np.abs(key[0, :, :length] - keys[layer]).max()))
        return worst


@pytest.fixture(scope="module")
def turn(tmp_path_factory):
    onnx = pytest.importorskip("onnx")
    from edgestream.export.evict_graph import evict_graph

    path = tmp_path_factory.mktemp("evict") / "evict.onnx"
    onnx.save(evict_graph(HEADS, DIM), str(path))
    with OrtBackend().open(path) as engine:
        yield engine


slots_to_keep = st.sets(st.integers(0, CAPACITY - 1), max_size=CAPACITY)


def sorted_slots(chosen, length):
    return np.array(sorted(slot for slot in chosen if slot < length), np.int64)


@pytest.mark.medium
@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(KINDS)),
    st.lists(st.tuples(st.integers(1, 12), slots_to_keep, st.booleans()), max_size=5),
    st.integers(0, 2**32 - 1),
)
def test_keys_are_where_direct_rotation_puts_them(kind, steps, seed):
    filled = Filled(kind, seed=seed)
    for count, chosen, is_own_place in steps:
        filled.append(min(count, CAPACITY - filled.arena.length))
        keep = sorted_slots(chosen, filled.arena.length)
        new = filled.random.integers(0, 200, (KINDS[kind].axes, len(keep)))
        filled.evict(keep, new if is_own_place else None)
        assert filled.error() < 1e-5


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(sorted(KINDS)), slots_to_keep, st.integers(0, 2**32 - 1))
def test_numpy_and_the_evict_graph_agree(turn, kind, chosen, seed):
    arenas = []
    for engine in (None, turn):
        filled = Filled(kind, engine, seed=seed)
        filled.append(30)
        keep = sorted_slots(chosen, 30)
        new = np.random.default_rng(seed).integers(0, 200, (KINDS[kind].axes, len(keep)))
        filled.evict(keep, new)
        assert filled.error() < 1e-5
        arenas.append(filled.arena)
    for one, other in zip(*(arena.tensors().values() for arena in arenas), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.medium
@given(slots_to_keep)
def test_with_one_axis_the_new_position_is_the_new_slot(chosen):
    filled = Filled()
    filled.append(33)
    keep = sorted_slots(chosen, 33)
    filled.evict(keep)
    assert filled.positions[0].tolist() == list(range(len(keep)))
    assert filled.arena.next_position == len(keep)


def grid(start, side=2):
    """A frame of side x side tokens at one time: [3, side * side]."""
    down, right = np.divmod(np.arange(side * side), side)
    return start + np.stack([np.zeros(side * side, int), down, right])


def test_a_frame_that_goes_closes_its_gap_on_every_axis_alike():
    filled = Filled("sectioned")
    filled.append(3)
    for start in (3, 5, 7):
        filled.append(4, grid(start))
    filled.append(2)
    assert filled.arena.next_position == 11
    filled.evict(np.r_[0:3, 7:17])  # without the first frame
    expected = np.concatenate([np.tile(range(3), (3, 1)), grid(3), grid(5)], 1)
    assert (filled.positions[:, :11] == expected).all()
    assert filled.positions[:, 11:].tolist() == [[7, 8]] * 3
    assert filled.arena.next_position == 9 and filled.error() < 1e-5


def test_a_gap_that_the_layout_left_stays():
    filled = Filled("sectioned")
    filled.append(1, np.full((3, 1), 0))
    filled.append(1, np.full((3, 1), 10))
    filled.append(1, np.full((3, 1), 20))
    filled.evict([0, 2])
    assert filled.positions[0].tolist() == [0, 19]


def test_it_keeps_its_size_and_its_place():
    filled = Filled()
    size = filled.arena.n_bytes
    places = [view.__array_interface__["data"] for view in filled.arena.tensors().values()]
    for _ in range(30):
        filled.append(CAPACITY - filled.arena.length)
        filled.evict(np.r_[0:4, 20:CAPACITY])
    filled.arena.restore(filled.arena.snapshot())
    assert (
        filled.arena.n_bytes
        == size
        == (LAYERS * 2 * HEADS * CAPACITY * DIM * 4 + CAPACITY * 8 + 3 * HEADS * CAPACITY * DIM * 4)
    )
    assert places == [view.__array_interface__["data"] for view in filled.arena.tensors().values()]


def whole(arena):
    parts = [view.tobytes() for view in arena.tensors().values()]
    return b"".join(parts) + arena.positions.tobytes()


def test_slots_before_the_first_that_moves_are_not_touched():
    filled = Filled()
    filled.append(30)
    for view in filled.arena.tensors().values():
        view[:, :, :9] = np.inf  # even a turn by nothing would make NaN of it
    before = {name: view.copy() for name, view in filled.arena.tensors().items()}
    filled.evict(np.r_[0:9, 12:30])
    for name, view in filled.arena.tensors().items():
        assert view[:, :, :9].tobytes() == before[name][:, :, :9].tobytes()
    before = whole(filled.arena)
    filled.evict(np.arange(27))
    assert whole(filled.arena) == before


@given(st.integers(0, 20), st.integers(0, 10), st.integers(0, 10))
def test_rewinding_leaves_no_bit_behind(count, more, reserved):
    filled = Filled()
    filled.append(count)
    before, mark = whole(filled.arena), filled.arena.mark()
    filled.append(more)
    filled.arena.reserve(reserved)
    for view in filled.arena.tensors().values():  # an engine that broke off while it wrote
        view[:, :, filled.arena.length : filled.arena.length + reserved] = np.nan
    filled.arena.rewind(mark)
    assert whole(filled.arena) == before and filled.arena.mark() == mark


def test_a_mark_of_another_time_is_refused():
    filled = Filled()
    filled.append(10)
    mark = filled.arena.mark()
    filled.append(10)
    filled.evict(np.arange(5, 20))  # still longer than the mark says
    with pytest.raises(ValueError, match="another time"):
        filled.arena.rewind(mark)
    mark = filled.arena.mark()
    filled.arena.reset()
    filled.arena.advance(30)
    with pytest.raises(ValueError, match="another time"):
        filled.arena.rewind(mark)


def test_reset_is_fresh_and_a_snapshot_continues_exactly():
    filled, fresh = Filled(), Filled()
    filled.append(20)
    filled.evict(np.arange(5, 20))
    state, held = filled.arena.snapshot(), whole(filled.arena)
    filled.append(5)
    filled.arena.reset()
    assert whole(filled.arena) == whole(fresh.arena) and filled.arena.next_position == 0
    fresh.arena.restore(state)
    assert whole(fresh.arena) == held and fresh.arena.length == 15
    with pytest.raises(ValueError, match="snapshot"):
        Arena(CacheShape(LAYERS, HEADS, DIM, 14), KINDS["one axis"]).restore(state)
    with pytest.raises(ValueError, match="snapshot"):
        Filled(dtype="float16").arena.restore(state)


def test_too_much_is_refused_by_name():
    filled = Filled()
    filled.append(CAPACITY - 2)
    with pytest.raises(ContextTooSmall, match="got 3 tokens more, expected at most 2: 38 of 40"):
        filled.arena.reserve(3)
    with pytest.raises(ValueError):
        filled.arena.advance(3)


@pytest.mark.parametrize("keep", [[3, 2], [1, 1], [-1, 2], [0, 20], [[0, 1]]])
def test_slots_to_keep_increase_and_are_in_use(keep):
    filled = Filled()
    filled.append(20)
    with pytest.raises(ValueError, match="expected increasing ones below 20"):
        filled.arena.evict(keep)
    assert filled.error() < 1e-5


@pytest.mark.parametrize("dtype", ["uint8", "bfloat16", "int32"])
def test_a_cache_that_cannot_be_turned_is_refused(dtype):
    with pytest.raises(EngineUnusable, match=f"got a cache of {dtype}, expected float32, "):
        Arena(SHAPE, KINDS["one axis"], dtype=dtype)


@pytest.mark.parametrize("kind", KINDS)
def test_codes_of_int8_are_turned_to_the_nearest_codes(kind):
    random = np.random.default_rng(0)
    arena = Arena(SHAPE, KINDS[kind], dtype="int8")
    arena.reserve(20)
    for view in arena.tensors().values():
        view[:, :, :20] = random.integers(-127, 128, (1, HEADS, 20, DIM))
    arena.advance(20)
    before = {name: view[0, :, :20].copy() for name, view in arena.tensors().items()}
    keep = np.r_[0:3, 9:20]
    arena.evict(keep)
    shift = np.tile(np.arange(len(keep)) - keep, (len(arena.positions), 1))
    for name, view in arena.tensors().items():
        found, kept = view[0, :, : len(keep)], before[name][:, keep]
        expected = kept if "value" in name else direct(kind, kept.astype(float), shift)
        assert found.dtype == np.int8
        assert np.abs(found - np.clip(expected, -127, 127)).max() <= 0.5 + 1e-4
        np.testing.assert_array_equal(view[0, :, len(keep) :], 0)


def test_positions_that_do_not_fit_a_head_are_refused():
    with pytest.raises(ValueError, match="mRoPE sections"):
        Arena(SHAPE, Positions(3, THETA, (2, 2, 1)))
    with pytest.raises(ValueError, match="even"):
        Arena(CacheShape(1, 1, 7, 8), KINDS["one axis"])


def test_positions_are_for_reading():
    with pytest.raises(ValueError):
        Filled().arena.positions[0, 0] = 1


class BreaksOff:
    """An evict engine whose second layer fails."""

    inputs = (TensorSpec("key", "float32", (1, "heads", "slots", DIM)),)

    def bind(self, inputs, outputs):
        self.runs = 0
        return self

    def run(self, inputs):
        self.runs += 1
        if self.runs == 2:
            raise EngineFailed("evict.onnx broke off")


def test_an_eviction_that_breaks_off_leaves_an_empty_arena_that_can_be_used():
    filled = Filled(turn=BreaksOff())
    filled.append(20)
    with pytest.raises(EngineFailed):
        filled.arena.evict(np.arange(5, 20))
    assert whole(filled.arena) == whole(Filled().arena)
    again = Filled()
    again.arena = filled.arena
    again.append(20)
    assert again.error() < 1e-5


@pytest.mark.parametrize(("dtype", "bound"), [("float32", 1e-5), ("float16", 2e-2)])
def test_the_drift_of_a_key_that_moves_to_the_front_slot_by_slot(dtype, bound):
    """The worst case: nothing can move more often, as a move is by one slot or more."""
    filled = Filled(dtype=dtype)
    filled.append(CAPACITY)
    while filled.arena.length > 1:
        filled.evict(np.arange(1, filled.arena.length))
    assert filled.error() < bound
