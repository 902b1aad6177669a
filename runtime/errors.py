"""Every way a run can fail, sorted by whose fault it is and what to do next.

    EdgeStreamError            never raised itself       exit
    ├─ UsageError              what was asked for           2   SettingsInvalid QuestionRefused
    ├─ BundleError             bundle or checkpoint         3
    ├─ EngineError             engine or device             4   SessionMissing
    ├─ SourceError             camera or file               5   SourceMissing SourceUnreadable
    │                                                           SourceUnknown SourceHasNoVideo
    │                                                           SourceHasNoFrames StreamOutOfOrder
    ├─ QualityError            calibration or parity        6
    ├─ ServiceError            service or network           7
    └─ OutputError             where results go             8   OutputUnwritable OutputFull

A message says *got, expected, where*; `hint` says what to try. The end of a stream is no error.
Anything else that escapes is our bug: exit code 1, with its traceback.
"""

from __future__ import annotations

from typing import ClassVar


class EdgeStreamError(Exception):
    """What every fault that is not our bug derives from.

    Args:
        message: what was got, what was expected and where, in one sentence.
        hint: what to try, in one sentence; None where nothing helps.
    """

    exit_code: ClassVar[int] = 1
    code: ClassVar[str] = "error"

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def as_json(self) -> dict[str, dict[str, str | None]]:
        """The shape that the command line and HTTP share (docs/FORMATS.md, section 6)."""
        return {"error": {"code": self.code, "message": self.message, "hint": self.hint}}


class UsageError(EdgeStreamError):
    """What was asked for cannot be done as asked."""

    exit_code, code = 2, "usage"


class SettingsInvalid(UsageError):
    """A setting is unknown or out of its range."""

    code = "settings-invalid"


class QuestionRefused(UsageError):
    """The inbox takes no question now: it is full, closed, or nobody is there to answer."""

    code = "question-refused"


class BundleError(EdgeStreamError):
    """A bundle or checkpoint is missing, damaged or of another kind."""

    exit_code, code = 3, "bundle"


class EngineError(EdgeStreamError):
    """An engine or a device does not do what it should."""

    exit_code, code = 4, "engine"


class SessionMissing(EngineError):
    """A Turn reached a run that has no language model."""

    code = "session-missing"


class SourceError(EdgeStreamError):
    """A camera, file or folder does not give frames."""

    exit_code, code = 5, "source"


class SourceUnknown(SourceError):
    """No kind of source goes by this name."""

    code = "source-unknown"


class SourceMissing(SourceError):
    """There is nothing at this path."""

    code = "source-missing"


class SourceUnreadable(SourceError):
    """Something is there, but it cannot be opened or is no video or image."""

    code = "source-unreadable"


class SourceHasNoVideo(SourceError):
    """The file can be read and holds no picture."""

    code = "source-no-video"


class SourceHasNoFrames(SourceError):
    """The file names a picture track, but not one frame could be decoded."""

    code = "source-no-frames"


class StreamOutOfOrder(SourceError):
    """A frame is older than the one before it."""

    code = "stream-out-of-order"


class QualityError(EdgeStreamError):
    """A calibration set or a parity gate was not good enough."""

    exit_code, code = 6, "quality"


class ServiceError(EdgeStreamError):
    """The service or the network failed."""

    exit_code, code = 7, "service"


class OutputError(EdgeStreamError):
    """Results cannot be written."""

    exit_code, code = 8, "output"


class OutputUnwritable(OutputError):
    """The place for results cannot be opened for writing."""

    code = "output-unwritable"


class OutputFull(OutputError):
    """The disk is full, or the place for results went away in the middle."""

    code = "output-full"
