"""CUDA as ONNX Runtime shows it, run by its CPU: every code path but the kernels and the copies.

The session is a real one, of the graph for CUDA, and so are bindings and OrtValues, in the
computer's memory. What is asked of CUDA alone is noted, so that a test can look at it.
"""

from __future__ import annotations

from contextlib import contextmanager
from unittest import mock

import onnxruntime

from edgestream.runtime.engines import ort_session

NAME = "CUDAExecutionProvider"
REFUSES_GRAPHS = (
    "[ONNXRuntimeError] : 1 : FAIL : This session cannot use the CUDA Graph feature as requested "
    "by the user as the model has control flow nodes which can't be supported by CUDA Graphs."
)
FALLS_BACK = (
    "[ONNXRuntimeError] : 1 : FAIL : This session contains graph nodes that are assigned to the "
    "default CPU EP, but fallback to CPU EP has been explicitly disabled by the user."
)


class Session(onnxruntime.InferenceSession):
    """A session that says it is CUDA's. What was asked of it is in class variables.

    Attributes:
        asked: options of the provider, one dict for each session.
        strict: whether each session forbade to fall back.
        runs: the graph id of each run, in order.
        refuses: said to a session that wants graphs; None for nothing.
        breaks: a recorded run with one of these ids fails.
    """

    asked, strict, runs, refuses, breaks = [], [], [], None, frozenset()

    def __init__(self, path, options, providers, **more):
        ((name, given),) = providers
        self.is_cuda = name == NAME
        if not self.is_cuda:
            super().__init__(path, options, providers=providers, **more)
            return
        Session.asked.append(given)
        fallback = "session.disable_cpu_ep_fallback"
        Session.strict.append(options.get_session_config_entry(fallback))
        if Session.refuses and "enable_cuda_graph" in given:
            raise RuntimeError(Session.refuses)
        options.add_session_config_entry(fallback, "0")
        super().__init__(path, options, providers=["CPUExecutionProvider"])

    def get_providers(self):
        return [NAME, "CPUExecutionProvider"] if self.is_cuda else super().get_providers()

    def run(self, names, feed, options=None):
        self._note(options)
        return super().run(names, feed, options)

    def run_with_iobinding(self, binding, options=None):
        self._note(options)
        super().run_with_iobinding(binding, options)

    def _note(self, options):
        if self.is_cuda:
            graph_id = options and options.get_run_config_entry("gpu_graph_id")
            Session.runs.append(graph_id)
            if graph_id in Session.breaks:
                raise RuntimeError("operation not permitted when stream is capturing")


@contextmanager
def cuda_on_cpu(refuses=None, breaks=()):
    """Within this block `cuda` is a provider that works."""
    Session.asked, Session.strict, Session.runs = [], [], []
    Session.refuses, Session.breaks = refuses, frozenset(breaks)
    listed = [NAME, "CPUExecutionProvider"]
    with (
        mock.patch.object(onnxruntime, "InferenceSession", Session),
        mock.patch.object(onnxruntime, "get_available_providers", lambda: listed),
        mock.patch.dict(ort_session.DEVICES, cuda="cpu"),
    ):
        yield Session
