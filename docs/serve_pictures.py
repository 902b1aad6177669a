"""Take the pictures of the camera service's page: the real service and the sample clip in Chromium.

python docs/serve_pictures.py     writes docs/serve-light.png, serve-dark.png, serve-phone.png;
                                  needs Playwright and Chromium, takes two and a half minutes
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]
QUESTION = "Which way did the camera pan first?"
# The gate's two minutes are full by then, and the lawn is looked at: it is the prettiest scene.
WATCHED_S, CLIP_S, SCENE_S = 118.0, 39.0, 19.5
MOST_BYTES = 300_000
STEP = 16
# The first one shows the page as a whole, the others what is seen of it at once.
SHOTS = {
    "serve-light": ("light", (1280, 800)),
    "serve-dark": ("dark", (1280, 800)),
    "serve-phone": ("light", (390, 844)),
}


def main() -> None:
    """Write the pictures."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("no Chromium here; install it, then try again")
    command = [
        sys.executable,
        "-m",
        "edgestream.edge.cli",
        "serve",
        "--port",
        "0",
        "--target-fps",
        "4",
    ]
    command += [f"front=loop:{ROOT}/assets/sample.mp4", "--bundle", f"{ROOT}/assets/reference"]
    service = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert service.stdout is not None
    try:
        url = service.stdout.readline().strip()
        begun_s = time.monotonic()
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            pages = {name: _opened(browser, url, *shot) for name, shot in SHOTS.items()}
            _prepare(pages["serve-light"])
            for name, page in pages.items():
                _wait_for_scene(begun_s)
                _ask(page)
                png = page.screenshot(full_page=name == "serve-light")
                _save(png, ROOT / "docs" / f"{name}.png")
            browser.close()
    finally:
        service.terminate()
        service.wait(60)
        service.stdout.close()


def _opened(browser: Any, url: str, scheme: str, size_px: tuple[int, int]) -> Any:
    width, height = size_px
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme=scheme,
        permissions=["notifications"],
    )
    page = context.new_page()
    page.goto(url)
    return page


def _prepare(page: Any) -> None:
    """Two standing requests, so that the list is not empty."""
    page.wait_for_selector("#standing-events input", state="attached")
    for text in ("it gets dark", "a red object appears"):
        page.fill("#standing-text", text)
        page.click("#standing-add")
        page.wait_for_selector(f".request-text:text-is('{text}')")


def _wait_for_scene(begun_s: float) -> None:
    passed_s = time.monotonic() - begun_s
    due_s = max(WATCHED_S, passed_s)
    due_s += (SCENE_S - due_s) % CLIP_S
    time.sleep(due_s - passed_s)


def _ask(page: Any) -> None:
    page.bring_to_front()
    page.fill("#question", QUESTION)
    page.press("#question", "Enter")
    page.wait_for_selector(".answer-foot span")
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    page.wait_for_timeout(1500)


def _save(png: bytes, path: Path) -> None:
    """Write it with coarser colours where it is no flat area: half the bytes, the same hues."""
    picture = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(np.int32)
    is_flat = (picture == np.roll(picture, 1, axis=0)) & (picture == np.roll(picture, 1, axis=1))
    coarse = np.minimum(255, (picture + STEP // 2) // STEP * STEP)
    chosen = np.where(is_flat.all(axis=2, keepdims=True), picture, coarse)
    Image.fromarray(chosen.astype(np.uint8)).save(path, optimize=True)
    size_bytes = path.stat().st_size
    assert size_bytes < MOST_BYTES, f"{path.name} has {size_bytes} bytes"
    print(f"{path.name}: {size_bytes} bytes")


if __name__ == "__main__":
    main()
