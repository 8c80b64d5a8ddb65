"""How fast the page of the filter is in headless Chromium: `make app`, then `python benchmarks/page.py` on a quiet computer.

A film made here stands in for the camera. The time on a line of 20 Mbit/s is the time from this computer, and that of the bytes that the
page needs first: the browser cannot slow down what its workers fetch.
"""

from __future__ import annotations

import argparse
import io
import re
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import ThreadingHTTPServer
from pathlib import Path

import numpy as np
import psutil
from imageio_ffmpeg import write_frames
from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright
from skimage import data

from dvlatent.cli.app import read_pages, serving

FLAGS = "--no-sandbox --use-fake-device-for-media-stream --use-fake-ui-for-media-stream --use-file-for-fake-video-capture="
LINE = 20e6 / 8  # bytes a second
LATER = re.compile(r"jspi|/filters/(?!age)|/samples/|/vendor/LICENSE|/vendor/tfjs/.*(?<!threaded-simd)\.wasm$")  # after the first edit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", type=Path, default=Path("build/app"))
    parser.add_argument("--seconds", type=int, default=12, help="how long the camera runs")
    arguments = parser.parse_args()
    pages = read_pages(arguments.dir)
    sizes = {path: len(page.zipped or page.body) for path, page in pages.items() if path != "/index.html"}
    first = sum(size for path, size in sizes.items() if not LATER.search(path))
    print(f"first visit: {first / 1e6:.1f} MB before the first edit")
    with tempfile.TemporaryDirectory() as folder, serving(pages, "127.0.0.1", 0) as (server, url), sync_playwright() as playwright:
        sent = count_bytes(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        film = camera(Path(folder, "camera.mjpeg"))
        found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
        chromium = playwright.chromium.launch(executable_path=found, args=f"{FLAGS}{film}".split())
        context = chromium.new_context(viewport={"width": 1280, "height": 800}, locale="en-US", permissions=["camera"])
        page = context.new_page()
        print(f"usable after {ready(page, url) + first / LINE:.1f} s at the first visit, on a line of 20 Mbit/s")
        page.evaluate("navigator.serviceWorker.ready.then(() => true)")
        print(f"everything: {sum(sent) / 1e6:.1f} MB sent by the server until the page needs no network")
        print(f"usable after {ready(page, url):.1f} s at the second visit, and {sum(sent) / 1e6:.1f} MB sent in all")
        context.close()
        context = chromium.new_context(viewport={"width": 1280, "height": 800}, locale="en-US", permissions=["camera"])
        page = context.new_page()
        ready(page, url)
        page.check("#consent")
        with peak_memory() as peak:
            took = photo(page)
        print(f"one photo of 12 megapixels, from the file to the edited picture: {took:.1f} s, the tab at {peak[0] / 1e6:.0f} MB")
        page.click("#another")
        print(f"camera of 640x480, find and filter and paste: {frames_per_second(page, arguments.seconds)} frames a second")
        chromium.close()
        server.shutdown()


def count_bytes(server: ThreadingHTTPServer) -> list[int]:
    """How many bytes the server sends from now on, headers included: the list grows."""
    sent: list[int] = []

    class Counting(server.RequestHandlerClass):
        def setup(self) -> None:
            super().setup()
            write = self.wfile.write
            self.wfile.write = lambda content: sent.append(len(content)) or write(content)

    server.RequestHandlerClass = Counting
    return sent


@contextmanager
def peak_memory() -> Iterator[list[int]]:
    """The most memory that the page's own process holds meanwhile, in bytes: its largest process that draws pages."""
    peak, done = [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            for process in psutil.Process().children(recursive=True):
                with suppress(psutil.Error):
                    if "--type=renderer" in process.cmdline():
                        peak[0] = max(peak[0], process.memory_full_info().uss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    yield peak
    done.set()
    watcher.join()


def ready(page: Page, url: str) -> float:
    began = time.perf_counter()
    page.goto(url)
    expect(page.locator("#status")).to_have_text("Ready.", timeout=120_000)
    return time.perf_counter() - began


def frames_per_second(page: Page, seconds: int) -> str:
    page.click("#live")
    page.locator("#dial-age").fill("2")
    page.wait_for_timeout(3000)
    counts = []
    for _ in range(seconds):
        page.wait_for_timeout(1000)
        counts.append(float(page.evaluate("document.body.dataset.fps")))
    return f"{statistics.median(counts):.1f} (median of {seconds} seconds; {min(counts):.1f} to {max(counts):.1f})"


def photo(page: Page) -> float:
    buffer = io.BytesIO()
    Image.fromarray(data.astronaut()).resize((4000, 3000)).save(buffer, "JPEG", quality=92)
    began = time.perf_counter()
    page.set_input_files("#file", files=[{"name": "large.jpg", "mimeType": "image/jpeg", "buffer": buffer.getvalue()}])
    expect(page.locator("#status")).to_have_text(re.compile("found"), timeout=60_000)
    page.wait_for_selector("#stage[aria-busy=false]")
    page.locator("#dial-age").fill("2")
    page.wait_for_selector("#stage[aria-busy=false]")
    return time.perf_counter() - began


def camera(path: Path) -> Path:
    """A film of the astronaut, moving a little."""
    whole = Image.fromarray(data.astronaut()).resize((700, 700))
    writer = write_frames(str(path), (640, 480), fps=25, codec="mjpeg", output_params=["-f", "mjpeg"])
    writer.send(None)
    for frame in range(100):
        left, top = int(30 + 20 * np.sin(frame / 16)), int(10 + 10 * np.cos(frame / 16))
        writer.send(np.ascontiguousarray(whole.crop((left, top, left + 640, top + 480))))
    writer.close()
    return path


if __name__ == "__main__":
    main()
