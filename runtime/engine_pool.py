"""The engines of a bundle, opened once and shared by every stream that runs on it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias

from numpy.typing import NDArray

from .adapters import adapters_of
from .bundle import Bundle
from .engine import NOTHING, Arrays, BoundCall, Engine, Tell, backend_for, unheard
from .engines.ladder import PROVIDERS, Rung, proven_engine
from .engines.lane import Lane, Lanes, OpenLane
from .errors import EngineFailed
from .held import Held, HeldArray, HeldCall, holding


@dataclass(frozen=True, slots=True)
class EngineRules:
    """What models run on.

    Attributes:
        providers: in the order in which they are tried.
        engines_dir: where compiled engines lie; None: the user's cache folder.
        tell: hears of each engine that is compiled, before and after.
        threads: of each engine; 0: all usable cores, or 1 where the lane is open.
        is_shared: one engine runs at a time, frames first; else all at once.
        speak_share: of the busy time, that speaking gets at least.
        chunk_tokens: that the language model reads in one go.
        heartbeat_s: a still scene is encoded again after this long, stream seconds.
        settle_s: so long after the last movement every frame is encoded, stream seconds.
    """

    providers: Sequence[str] = PROVIDERS
    threads: int = 0
    is_shared: bool = True
    speak_share: float = 0.25
    chunk_tokens: int = 16
    heartbeat_s: float = 2.0
    settle_s: float = 0.75
    engines_dir: Path | None = None
    tell: Tell = field(default=unheard, compare=False)

    @property
    def engine_threads(self) -> int:
        """Threads of one engine."""
        if self.threads:
            return self.threads
        return usable_cores() if self.is_shared else 1


class LeasedEngine:
    """An engine of a pool as one stream holds it; see `Engine`.

    Leaving its block says that it broke off: it is closed when no other stream runs on it. State:
    whether it was given back.
    """

    def __init__(self, pool: EnginePool, key: tuple[str, str], engine: Engine) -> None:
        self.provider, self.inputs, self.outputs = engine.provider, engine.inputs, engine.outputs
        self._pool, self._key, self._engine = pool, key, engine
        self._is_held = True

    def run(self, arrays: Arrays = NOTHING) -> dict[str, NDArray[Any]]:
        """All outputs for these inputs, by name; see `Engine.run`."""
        return self._held().run(arrays)

    def bind(self, inputs: Arrays, outputs: Arrays) -> BoundCall:
        """A call on these arrays; see `Engine.bind`. Each stream has arrays of its own."""
        return self._held().bind(inputs, outputs)

    def hold(self, array: NDArray[Any]) -> HeldArray:
        """A copy of an array where the engine runs; see `HoldingEngine.hold`."""
        return holding(self._held()).hold(array)

    def bind_held(
        self,
        inputs: Held,
        outputs: Held,
        *,
        host: Arrays | None = None,
        replays: bool = False,
    ) -> HeldCall:
        """A call on arrays that stay where the engine runs; see `HoldingEngine.bind_held`."""
        return holding(self._held()).bind_held(inputs, outputs, host=host, replays=replays)

    def _held(self) -> Engine:
        if not self._is_held:
            raise EngineFailed(f"the engine of {self._key[0]} was given back and cannot run")
        return self._engine

    def give_back(self, *, is_broken: bool = False) -> None:
        """Use it no more; a second call does nothing."""
        if self._is_held:
            self._is_held = False
            self._pool.take_back(self._key, is_broken=is_broken)

    def __enter__(self) -> LeasedEngine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.give_back(is_broken=True)


# Part, variants that failed, providers that may run it.
_Asked: TypeAlias = tuple[str, tuple[str, ...], tuple[str, ...]]


@dataclass(slots=True)
class _Opened:
    """An open rung: who runs on it, and whether one of them has left it because it broke off."""

    rung: Rung
    users: int = 0
    is_broken: bool = False


class EnginePool:
    """Opens each variant once, whoever asks. Safe for any number of threads.

    State: what is open, by part and variant, with the number of its users. An engine without users
    stays for the next stream, unless it broke off.

    Args:
        bundle: opened with check="all".
        rules: what it runs on.
    """

    def __init__(self, bundle: Bundle, rules: EngineRules) -> None:
        self.bundle, self.rules = bundle, rules
        self.lane: Lanes = Lane(speak_share=rules.speak_share) if rules.is_shared else OpenLane()
        self.rows, self.adapters = bundle.token_rows(), adapters_of(bundle)
        self._lock = threading.Lock()
        self._opened: dict[tuple[str, str], _Opened] = {}
        self._chosen: dict[_Asked, tuple[str, str]] = {}

    def lease(
        self, role: str, failed: Sequence[str] = (), providers: Sequence[str] | None = None
    ) -> Rung:
        """The highest rung of a part that stands, but for those that failed; to be given back.

        Args:
            providers: those that may run it; None for those of the rules.

        Raises:
            EngineUnusable: none does.

        Cost: the first time, it is opened and runs its golden calls; then nothing.
        """
        with self._lock:
            asked = (role, tuple(failed), tuple(providers or self.rules.providers))
            opened = self._open(asked)
            opened.users += 1
            key = self._chosen[asked]
            return replace(opened.rung, engine=LeasedEngine(self, key, opened.rung.engine))

    def _open(self, asked: _Asked) -> _Opened:
        known = self._opened.get(self._chosen.get(asked, ("", "")))
        if known is not None:
            return known
        role, failed, providers = asked
        rung = proven_engine(
            self.bundle,
            role,
            lambda provider: backend_for(
                provider,
                threads=self.rules.engine_threads,
                engines_dir=self.rules.engines_dir,
                tell=self.rules.tell,
            ),
            providers=providers,
            failed=failed,
        )
        key = self._chosen[asked] = (role, rung.variant.id)
        if key in self._opened:  # by another way down the ladder
            rung.engine.__exit__(None, None, None)
            return self._opened[key]
        return self._opened.setdefault(key, _Opened(rung))

    def take_back(self, key: tuple[str, str], *, is_broken: bool) -> None:
        """One stream uses this engine no more."""
        with self._lock:
            opened = self._opened.get(key)
            if opened is None:  # the pool was closed
                return
            opened.users -= 1
            opened.is_broken |= is_broken
            if opened.is_broken and opened.users == 0:  # its weights need not lie beside new ones
                del self._opened[key]
                opened.rung.engine.__exit__(None, None, None)

    def close(self) -> None:
        """Close every engine: no stream may run on them any more."""
        with self._lock:
            while self._opened:
                self._opened.popitem()[1].rung.engine.__exit__(None, None, None)


@contextmanager
def engine_pool(bundle: Bundle, rules: EngineRules | None = None) -> Iterator[EnginePool]:
    """The engines of a bundle, for as long as the block lasts."""
    pool = EnginePool(bundle, rules or EngineRules())
    try:
        yield pool
    finally:
        pool.close()


def usable_cores() -> int:
    """Cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    return len(affinity(0)) if affinity else os.cpu_count() or 1
