"""One camera of the service: a thread that watches it, and what others see of it."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass

from ...runtime.addresses import redacted
from ...runtime.errors import CameraNotWatching, EdgeStreamError
from ..privacy_rules import zones_of
from .answers import Answer, Answers
from .camera_source import kind_of
from .pictures import Pictures
from .trace import Trace
from .watch_run import Shared, Shown, WatchRun, opened_run

log = logging.getLogger(__name__)

LEAVE_WITHIN_S = 15.0
"""A camera that was told to leave has left by then: a source returns within 100 ms, an answer is
cut at its next token, and records have `running.LEAVE_WITHIN_S`."""


@dataclass(frozen=True, slots=True)
class CameraState:
    """How a camera is.

    Attributes:
        state: starting, connecting, open, lost, paused, ended, failed or stopped.
        reason: one sentence.
    """

    state: str
    reason: str = ""


class Camera:
    """One camera of the service. Safe for any number of threads.

    State: the thread that watches and its run, what others see of it.

    Args:
        name: of the camera, in records and paths.
        address: of its source, as it was given.
        shared: what it has in common with the others.
    """

    def __init__(self, name: str, address: str, shared: Shared) -> None:
        self.name, self.address, self.kind = name, address, kind_of(address)
        self.shown_address = redacted(address)
        self.pictures, self.trace, self.answers = Pictures(), Trace(), Answers()
        self._shared = shared
        self._lock = threading.RLock()
        self._state = CameraState("stopped")
        self._run: WatchRun | None = None
        self._thread: threading.Thread | None = None
        self._stop, self._left = threading.Event(), threading.Event()
        self._is_paused = False

    def start(self) -> None:
        """Begin to watch; nothing where it does."""
        with self._lock:
            if self._run is not None or self._state.state == "starting":
                return
            if self._thread is not None:  # it has let go of everything and is about to end
                self._thread.join()
            self._stop, self._left = threading.Event(), threading.Event()
            self._state = CameraState("starting", "the source and its stages are being opened")
            self._thread = threading.Thread(
                target=self._watch, name=f"edgestream camera {self.name}", daemon=True
            )
            self._thread.start()

    def _watch(self) -> None:
        shown = Shown(self.pictures, self.trace, self.answers)
        ended = CameraState("ended", "the source has come to its end")
        try:
            with opened_run(
                self.name, self.address, self._shared, shown, self._stop.is_set
            ) as opened:
                with self._lock:
                    self._run = opened
                    if self._is_paused:
                        opened.pausing.pause()
                opened.watch(self._left)
        except EdgeStreamError as fault:
            ended = CameraState("failed", f"{fault.code}: {fault.message}")
            log.error("camera %s has failed: %s: %s", self.name, fault.code, fault.message)
        except Exception as fault:  # ours; the other cameras go on, and the log has it all
            ended = CameraState("failed", f"a fault of EdgeStream itself: {type(fault).__name__}")
            log.exception("camera %s has failed", self.name)
        finally:
            if self._stop.is_set() and ended.state == "ended":
                ended = CameraState("stopped", "it was stopped")
            with self._lock:
                self._run, self._state = None, ended
                self.answers.fail_all(f"{self.name} watches no more")

    def stop(self, within_s: float = 0.0) -> None:
        """Watch no more: finish the sentence within a time, save, and let go of everything.

        Args:
            within_s: seconds; then what is being said is cut.
        """
        thread = self._thread
        self._stop.set()
        if thread is None:
            return
        thread.join(within_s)
        self._left.set()
        thread.join(LEAVE_WITHIN_S)
        if thread.is_alive():
            log.error("camera %s did not stop within %g s", self.name, LEAVE_WITHIN_S)

    def forget(self) -> None:
        """Show nothing of what was seen any more; call it when nothing watches."""
        self.pictures.forget()
        self.trace.clear()

    def tell_to_stop(self) -> None:
        """Begin to stop, without waiting for it."""
        self._stop.set()

    def pause(self) -> None:
        """Take no frames until `resume`; questions are still answered."""
        with self._lock:
            self._is_paused = True
            if self._run is not None:
                self._run.pausing.pause()

    def resume(self) -> None:
        """Take frames again; one that has failed, ended or stopped begins anew."""
        with self._lock:
            self._is_paused = False
            if self._run is not None:
                self._run.pausing.resume()
                return
        self.start()

    @property
    def is_paused(self) -> bool:
        """It was told to pause."""
        return self._is_paused

    @property
    def has_zones(self) -> bool:
        """Part of its picture is blackened."""
        return bool(zones_of(self.name, self._shared.settings.privacy))

    @property
    def state(self) -> CameraState:
        """How it is now."""
        with self._lock:
            opened = self._run
            if opened is None:
                return self._state
        link = getattr(opened.pausing, "state", None)
        if link is not None:
            found = link()
            return CameraState(found.state, found.reason)
        if self._is_paused:
            return CameraState("paused", "it was told to pause")
        return CameraState("open", f"watching {self.shown_address}")

    @property
    def run(self) -> WatchRun | None:
        """What watches it now; None where nothing does."""
        return self._run

    def watching(self) -> WatchRun:
        """What watches it now.

        Raises:
            CameraNotWatching: nothing does.
        """
        opened = self._run
        if opened is None:
            state = self.state
            raise CameraNotWatching(
                f"camera {self.name} is {state.state}: {state.reason}",
                hint=f"POST /v1/cameras/{self.name}/resume starts it again",
            )
        return opened

    def ask(self, text: str, answer: Answer) -> None:
        """Ask it now; `answer` takes what is said.

        Raises:
            CameraNotWatching, QuestionRefused: it cannot answer now.
        """
        self.answers.ask(self.watching().inbox, text, answer)
