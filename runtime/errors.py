"""Every way a run can fail, sorted by whose fault it is and what to do next.

    EdgeStreamError            never raised itself       exit
    ├─ UsageError              what was asked for           2   SettingsInvalid QuestionRefused
    │                                                           SchemeUnknown PromptTooLong
    │                                                           ZoneInvalid StandingInvalid
    │                                                           StandingRefused
    ├─ BundleError             bundle or checkpoint         3   BundleMissing BundleFileRefused
    │                                                           HashMismatch ManifestInvalid
    │                                                           FormatTooNew VariantMissing
    │                                                           GoldenInvalid
    │                                                           WeightsInvalid PromptInvalid
    │                                                           CheckpointMissing CheckpointInvalid
    │                                                           FamilyUnknown RemoteCodeNeeded
    │                                                           VocabularyMismatch AdapterMismatch
    │                                                           StateMismatch StateInvalid
    │                                                           UntrainedModel GraphRefused
    ├─ EngineError             engine or device             4   SessionMissing BackendMissing
    │                                                           EngineUnusable InputMismatch
    │                                                           EngineFailed EngineNotFinite
    │                                                           DeviceMemoryExhausted
    ├─ SourceError             camera or file               5   SourceMissing SourceUnreadable
    │                                                           SourceUnknown SourceHasNoVideo
    │                                                           SourceHasNoFrames StreamOutOfOrder
    │                                                           SourceLost
    ├─ QualityError            calibration or parity        6   CalibrationInvalid CalibrationNoise
    │                                                           CalibrationTooSmall
    │                                                           CalibrationConstant
    │                                                           DialogueInvalid
    ├─ ServiceError            service or network           7   AddressTaken ListenUnsafe
    │                                                           CameraUnknown CameraExists
    │                                                           CamerasFull CameraNotWatching
    │                                                           CameraTaken WebRtcMissing
    │                                                           AddressRefused PictureMissing
    │                                                           PageMissing ModelUnknown
    │                                                           RequestInvalid KeyNeeded
    │                                                           OriginRefused BodyTooLarge
    │                                                           BodyTooSlow TooManyRequests
    │                                                           ServiceFull AnswerLost StreamBusy
    │                                                           StandingUnknown EndpointFailed
    └─ OutputError             where results go             8   OutputUnwritable OutputExists
                                                                OutputFull

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


class ZoneInvalid(SettingsInvalid):
    """A privacy zone is no zone, or lies outside the picture."""

    code = "zone-invalid"


class StandingInvalid(UsageError):
    """A standing request asks for nothing, or for something that cannot be held."""

    code = "standing-invalid"


class StandingRefused(UsageError):
    """No further standing request is taken: there are too many, or nobody can answer them."""

    code = "standing-refused"


class QuestionRefused(UsageError):
    """The inbox takes no question now: it is full, closed, or nobody is there to answer."""

    code = "question-refused"


class SchemeUnknown(UsageError):
    """No way of quantizing goes by this name, or not for this part."""

    code = "scheme-unknown"


class PromptTooLong(UsageError):
    """A question is too long for the tokens that a prompt may have."""

    code = "prompt-too-long"


class ContextTooSmall(UsageError):
    """The cache has no room for what must be in it, also after all that may go has gone."""

    code = "context-too-small"


class BundleError(EdgeStreamError):
    """A bundle or checkpoint is missing, damaged or of another kind."""

    exit_code, code = 3, "bundle"


class BundleMissing(BundleError):
    """There is no bundle at this path."""

    code = "bundle-missing"


class BundleFileRefused(BundleError):
    """A file of the bundle is absent, not listed, a link, or cannot be read."""

    code = "bundle-file-refused"


class HashMismatch(BundleError):
    """A file of the bundle is not the one that was written."""

    code = "bundle-hash-mismatch"


class ManifestInvalid(BundleError):
    """The manifest lacks a field, or a field holds something else than it should."""

    code = "manifest-invalid"


class FormatTooNew(BundleError):
    """The format has a greater number than this version knows."""

    code = "format-too-new"


class VariantMissing(BundleError):
    """The bundle has no proven variant of a part for the provider that was asked for."""

    code = "variant-missing"


class GoldenInvalid(BundleError):
    """The golden file of the bundle cannot be read as one."""

    code = "golden-invalid"


class WeightsInvalid(BundleError):
    """A weight of a checkpoint cannot be quantized: NaN, infinity, no numbers."""

    code = "weights-invalid"


class PromptInvalid(BundleError):
    """A prompt layout makes no sense, or its token ids are not those of the tokenizer."""

    code = "prompt-invalid"


class CheckpointMissing(BundleError):
    """There is no checkpoint at this path, or one of its files is not there."""

    code = "checkpoint-missing"


class CheckpointInvalid(BundleError):
    """A file of a checkpoint or adapter is damaged, or does not fit the others."""

    code = "checkpoint-invalid"


class FamilyUnknown(BundleError):
    """No family of models goes by this name."""

    code = "family-unknown"


class RemoteCodeNeeded(BundleError):
    """A checkpoint asks for Python code of its own to be run."""

    code = "remote-code-needed"


class VocabularyMismatch(BundleError):
    """The tokenizer and the embedding table do not have the same tokens."""

    code = "vocabulary-mismatch"


class AdapterMismatch(BundleError):
    """An adapter was trained on another base, or is not the one that a bundle was made with."""

    code = "adapter-mismatch"


class AdapterUnknown(BundleError):
    """The bundle has no adapter of this name."""

    code = "adapter-unknown"


class StateMismatch(BundleError):
    """A saved state belongs to another bundle."""

    code = "state-mismatch"


class StateInvalid(BundleError):
    """A saved state is damaged, or is none."""

    code = "state-invalid"


class UntrainedModel(BundleError):
    """The model has learned nothing, so what it says is no answer."""

    code = "untrained-model"


class GraphRefused(BundleError):
    """A graph of another tool is not what the checkpoint needs."""

    code = "graph-refused"


class EngineError(EdgeStreamError):
    """An engine or a device does not do what it should."""

    exit_code, code = 4, "engine"


class SessionMissing(EngineError):
    """A Turn reached a run that has no language model."""

    code = "session-missing"


class BackendMissing(EngineError):
    """Nothing that is installed here runs this provider."""

    code = "backend-missing"


class EngineUnusable(EngineError):
    """A graph cannot be opened, or another provider than the one asked for would run it."""

    code = "engine-unusable"


class InputMismatch(EngineError):
    """A tensor has another name, type or shape than the graph declares."""

    code = "input-mismatch"


class EngineFailed(EngineError):
    """The engine broke off in the middle of a run."""

    code = "engine-failed"


class EngineNotFinite(EngineFailed):
    """An engine took or gave NaN or infinity where numbers are expected."""

    code = "engine-not-finite"


class DeviceMemoryExhausted(EngineError):
    """The device has no memory left for the engine."""

    code = "device-memory-exhausted"


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


class SourceLost(SourceError):
    """A camera cannot be reached now, or gives no more pictures; it is tried again."""

    code = "source-lost"


class StreamOutOfOrder(SourceError):
    """A frame is older than the one before it."""

    code = "stream-out-of-order"


class QualityError(EdgeStreamError):
    """A calibration set, training data or a parity gate was not good enough."""

    exit_code, code = 6, "quality"


class CalibrationInvalid(QualityError):
    """A calibration set is damaged, or is none."""

    code = "calibration-invalid"


class CalibrationTooSmall(QualityError):
    """A calibration set has too few frames."""

    code = "calibration-too-small"


class CalibrationConstant(QualityError):
    """The frames of a calibration set are all but the same."""

    code = "calibration-constant"


class CalibrationNoise(QualityError):
    """The frames of a calibration set are noise: neighbouring pixels know nothing of each other."""

    code = "calibration-noise"


class DialogueInvalid(QualityError):
    """A file of dialogues or captions to learn from is damaged, or does not fit its videos."""

    code = "dialogue-invalid"


class ParityFailed(QualityError):
    """A gate of the proof refused the export; no bundle was written."""

    code = "parity-failed"


class ServiceError(EdgeStreamError):
    """The service or the network failed."""

    exit_code, code = 7, "service"


class AddressTaken(ServiceError):
    """The service cannot listen where it should."""

    code = "address-taken"


class ListenUnsafe(ServiceError):
    """Others than this machine could reach the service, and nothing keeps them out."""

    code = "listen-unsafe"


class CameraUnknown(ServiceError):
    """No camera of the service goes by this name."""

    code = "camera-unknown"


class CameraExists(ServiceError):
    """A camera of the service has this name already."""

    code = "camera-exists"


class CamerasFull(ServiceError):
    """The service has as many cameras as it may have."""

    code = "cameras-full"


class CameraNotWatching(ServiceError):
    """A camera that watches nothing now cannot do what was asked."""

    code = "camera-not-watching"


class CameraTaken(ServiceError):
    """Somebody else sends the pictures of this camera."""

    code = "camera-taken"


class WebRtcMissing(ServiceError):
    """The package that speaks WebRTC is not installed."""

    code = "webrtc-missing"


class AddressRefused(ServiceError):
    """A request may not have this address opened."""

    code = "address-refused"


class PictureMissing(ServiceError):
    """There is no such picture, or none yet."""

    code = "picture-missing"


class PageMissing(ServiceError):
    """The service has nothing at this path."""

    code = "page-missing"


class ModelUnknown(ServiceError):
    """The service runs another model."""

    code = "model-unknown"


class RequestInvalid(ServiceError):
    """A request is not written as it should be."""

    code = "request-invalid"


class KeyNeeded(ServiceError):
    """A request came without the key of the service, or with a wrong one."""

    code = "key-needed"


class OriginRefused(ServiceError):
    """A request came from the page of another site, or by another host name."""

    code = "origin-refused"


class BodyTooLarge(ServiceError):
    """A request is larger than the service takes."""

    code = "body-too-large"


class BodyTooSlow(ServiceError):
    """A request took too long to arrive."""

    code = "body-too-slow"


class TooManyRequests(ServiceError):
    """A client asks more often than it may."""

    code = "too-many-requests"


class ServiceFull(ServiceError):
    """The service serves as many at a time as it may."""

    code = "service-full"


class StandingUnknown(ServiceError):
    """No standing request of the service goes by this name."""

    code = "standing-unknown"


class AnswerLost(ServiceError):
    """An answer broke off, or its camera stopped before it came."""

    code = "answer-lost"


class StreamBusy(ServiceError):
    """A stream did not come to a frame boundary in time to do what it was told."""

    code = "stream-busy"


class EndpointFailed(ServiceError):
    """A language model that is asked over the network does not answer, or not in its form."""

    code = "endpoint-failed"


class OutputError(EdgeStreamError):
    """Results cannot be written."""

    exit_code, code = 8, "output"


class OutputUnwritable(OutputError):
    """The place for results cannot be opened for writing."""

    code = "output-unwritable"


class OutputExists(OutputError):
    """Something stands where the result should go, and nobody said that it may be replaced."""

    code = "output-exists"


class OutputFull(OutputError):
    """The disk is full, or the place for results went away in the middle."""

    code = "output-full"
