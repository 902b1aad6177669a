"""The cameras of a service by their names: added, removed, wiped, and stopped all together."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from ...runtime.errors import CameraExists, CamerasFull, CameraUnknown
from .camera import Camera
from .camera_list import CameraList
from .camera_source import opened_source
from .state_files import wipe_folder
from .watch_run import Shared


class CameraBoard:
    """All cameras of a service, by name. Safe for any number of threads.

    State: the cameras; those that were added while it ran are in the list on disk.

    Args:
        shared: what they have in common.
        most: cameras at a time.
        stop_within_s: each may take so long to finish its sentence.
        added: the list on disk.
    """

    def __init__(
        self, shared: Shared, *, most: int, stop_within_s: float, added: CameraList
    ) -> None:
        self.shared, self.most = shared, most
        self._stop_within_s, self._added = stop_within_s, added
        self._lock = threading.Lock()
        self._cameras: dict[str, Camera] = {}

    def start_all(self, named: Mapping[str, str]) -> None:
        """Begin to watch the cameras that were named, and those that were added before.

        Raises:
            CamerasFull: there are more than there may be.
        """
        for name, address in {**self._added.entries(), **named}.items():
            self.add(name, address)

    def add(self, name: str, address: str, *, keeps: bool = False) -> Camera:
        """Begin to watch a camera.

        Args:
            name: of at most 64 letters, digits, - and _.
            address: of its source.
            keeps: also after a restart.

        Raises:
            CameraExists, CamerasFull: it cannot be added.
            SourceError, SettingsInvalid: one that is to be kept has an address that is none.
            OutputError: the list on disk cannot be written; the camera is not added.
        """
        if keeps:
            opened_source(name, address, self.shared.settings)
        with self._lock:
            # A folder is named after it, and on some systems Door and door are one folder.
            if any(name.casefold() == known.casefold() for known in self._cameras):
                raise CameraExists(
                    f"there is a camera {name} already", hint="take another name, or delete it"
                )
            if len(self._cameras) >= self.most:
                raise CamerasFull(
                    f"got one more camera than the {self.most} that may be watched at a time",
                    hint="delete one, or raise service.max_cameras",
                )
            if keeps:
                self._added.put(name, address)
            camera = self._cameras[name] = Camera(name, address, self.shared)
        self.shared.outward.add_camera(name, self.shared.event_types)
        camera.start()
        return camera

    def remove(self, name: str) -> None:
        """Stop a camera and forget it; what it saved stays on disk.

        Raises:
            CameraUnknown: there is none of this name.
        """
        camera = self.camera(name)
        camera.stop(self._stop_within_s)
        with self._lock:
            self._cameras.pop(name, None)
            self._added.remove(name)
        self.shared.outward.remove_camera(name)

    def wipe(self, name: str) -> None:
        """Forget all that a camera saw and was told; it goes on watching.

        Raises:
            CameraUnknown: there is none of this name.
            StreamBusy: it is not at a frame boundary yet; it will be done there.
            OutputError: what it saved cannot be removed.
        """
        camera = self.camera(name)
        opened = camera.run
        if opened is not None:
            opened.stages.wipe()
        elif self.shared.state is not None:
            wipe_folder(self.shared.state / name)
        camera.forget()
        self.shared.hub.forget(name)
        self.shared.outward.forget(name)

    def camera(self, name: str) -> Camera:
        """The camera of a name.

        Raises:
            CameraUnknown: there is none.
        """
        camera = self._cameras.get(name)
        if camera is None:
            raise CameraUnknown(
                f"there is no camera {name}, only {', '.join(self._cameras) or 'none yet'}",
                hint="GET /v1/cameras lists those that there are",
            )
        return camera

    def all(self) -> tuple[Camera, ...]:
        """Every camera, in the order in which they were added."""
        with self._lock:
            return tuple(self._cameras.values())

    def close(self) -> None:
        """Stop all cameras at once, each finishing its sentence, and wait for them."""
        cameras = self.all()
        for camera in cameras:
            camera.tell_to_stop()
        for camera in cameras:
            camera.stop(self._stop_within_s)
