"""Keeps the words of other tools off the user's terminal while they work."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet() -> Iterator[io.StringIO]:
    """What tools print, warn and log goes into the text that is given; the hub is out of reach.

    Exporters and quantizers report their own progress and call layers errors that they rightly
    leave alone. What matters is raised, or checked by counting what came out.
    """
    said = io.StringIO()
    before = os.environ.get("HF_HUB_OFFLINE")
    os.environ["HF_HUB_OFFLINE"] = "1"
    logging.disable(logging.ERROR)
    try:
        with (
            contextlib.redirect_stdout(said),
            contextlib.redirect_stderr(said),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            yield said
    finally:
        logging.disable(logging.NOTSET)
        if before is None:
            os.environ.pop("HF_HUB_OFFLINE", None)
        else:
            os.environ["HF_HUB_OFFLINE"] = before
