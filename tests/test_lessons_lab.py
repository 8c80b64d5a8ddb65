"""The lessons in real JupyterLab, in a real browser: run all cells, move the slider by keyboard, see another face."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

ROOT = Path(__file__).resolve().parent.parent
LESSON = ROOT / "notebooks" / "00_start_here.ipynb"
FLAGS = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync"
SMALL = """\
import torch
from dvlatent.lessons.morph import morph

class Hue:  # a face of one colour: enough to see that it changes
    z_dim = w_dim = num_layers = 3
    resolution, w_mean = 64, torch.zeros(3)
    mapping = staticmethod(lambda z: z)
    synthesis = staticmethod(lambda ws: ws.mean(1)[:, :, None, None].expand(-1, -1, 64, 64))

morph(Hue(), torch.tensor([-1.0, 0, 1]), torch.tensor([1.0, 0, -1]), frames=5, names=("blue", "red"))"""


@pytest.fixture(scope="module")
def browser():
    """Debian's chromium, or whatever `make browser` installed."""
    from playwright.sync_api import Error, sync_playwright

    with sync_playwright() as playwright:
        found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
        try:
            chromium = playwright.chromium.launch(executable_path=found, args=FLAGS.split())
        except Error as reason:
            pytest.fail(f"no browser that starts: run `make browser`. ({str(reason).splitlines()[0]})")
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """JupyterLab on the loopback address only, with its own settings, showing a folder of copies."""
    home, folder = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("notebooks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folders = {f"JUPYTER_{kind}_DIR": str(home / kind.lower()) for kind in ("CONFIG", "DATA", "RUNTIME")}
    folders |= {f"JUPYTERLAB_{kind}_DIR": str(home / kind.lower()) for kind in ("SETTINGS", "WORKSPACES")}
    folders["IPYTHONDIR"] = str(home / "ipython")
    silent = home / "settings" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    silent.parent.mkdir(parents=True)
    silent.write_text('{"checkForUpdates": false, "fetchNews": "false"}')  # nothing outside this computer is asked
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    settings = {
        "ServerApp.ip": "127.0.0.1", "ServerApp.port": port, "ServerApp.port_retries": 0, "ServerApp.root_dir": folder,
        "IdentityProvider.token": "", "PasswordIdentityProvider.hashed_password": "",
    }  # fmt: skip
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", *(f"--{key}={value}" for key, value in settings.items())]
    log = home / "log.txt"
    with log.open("w") as output:
        server = subprocess.Popen(
            command, env={**os.environ, **folders, "PYTHONPATH": path}, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        wait(lambda: answers(f"http://127.0.0.1:{port}/api"), 90, lambda: f"JupyterLab did not start:\n{log.read_text()[-2000:]}")
        yield f"http://127.0.0.1:{port}", folder
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)


def answers(url):
    try:
        return urllib.request.urlopen(url, timeout=5).status == 200
    except OSError:
        return False


def wait(ready, seconds, message):
    """Wait until something is true; fail with a message that can look at what happened."""
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            pytest.fail(message())
        time.sleep(0.2)


def opened(browser, lab, name, seconds, wanted=".dvmorph input"):
    """A page with the notebook, all cells run anew; and the list of what the browser complained about."""
    from playwright.sync_api import TimeoutError as Timeout

    url, _ = lab
    page, complaints = browser.new_page(viewport={"width": 1400, "height": 1000}), []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(f"{url}/lab/workspaces/{name.split('.')[0]}/tree/{name}?reset", wait_until="domcontentloaded", timeout=90_000)
    page.wait_for_selector(".jp-NotebookPanel .jp-Cell", timeout=90_000)
    page.get_by_text("| Idle").wait_for(timeout=90_000)  # before the kernel is there, running asks which one to take
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name=re.compile("^Run All Cells$")).click()
    try:
        page.wait_for_selector(wanted, timeout=seconds * 1000)
    except Timeout:
        page.screenshot(path=lab[1] / "no_slider.png")
        pytest.fail(f"no {wanted} after {seconds} s; see {lab[1] / 'no_slider.png'}. The browser said: {complaints}")
    return page, complaints


def move_and_look(page):
    """Move the slider by keyboard to the middle and the end: the picture and the words must follow each time."""
    box = page.locator(".dvmorph").first
    dial, picture, words = box.get_by_role("slider"), box.locator("img:visible"), box.locator("output")
    assert dial.get_attribute("aria-label") or box.locator("label").text_content(), "the slider has no name"
    seen = []
    for keys in ([], ["ArrowRight"], ["ArrowRight"], ["End"], ["Home"]):
        before = words.text_content()
        dial.focus()
        for key in keys:
            page.keyboard.press(key)
        if keys:
            wait(lambda before=before: words.text_content() != before, 30, lambda before=before: f"the words stayed at {before!r}")
        wait(lambda: picture.evaluate("image => image.complete && image.naturalWidth > 0"), 30, lambda: "the picture is empty")
        page.wait_for_timeout(300)
        seen.append((words.text_content(), picture.screenshot()))
    return seen


def ours(complaints):
    """Complaints that are not JupyterLab's own about what it cannot fetch."""
    return [words for words in complaints if re.search(r"widget|traitlet|model|morph|slider|Uncaught", words, re.IGNORECASE)]


def moved(seen):
    shown = [picture for _, picture in seen]
    assert shown[0] == shown[4], "Home does not lead back to the first face"
    assert len(set(shown[:4])) == 4, f"the picture did not follow the slider: {[words for words, _ in seen]}"
    assert len({words for words, _ in seen}) == 4


def test_the_slider_of_a_small_notebook_moves_by_keyboard(browser, lab):
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    nbformat.write(new_notebook(cells=[new_code_cell(SMALL)], metadata={"kernelspec": kernel}), lab[1] / "small.ipynb")
    page, complaints = opened(browser, lab, "small.ipynb", 120)
    seen = move_and_look(page)
    moved(seen)
    assert [words for words, _ in seen] == [
        "This is blue.", "25% of the way from blue to red.", "50% of the way from blue to red.", "This is red.", "This is blue."
    ]  # fmt: skip
    assert not ours(complaints), complaints
    page.close()


def test_the_first_lesson_runs_and_its_slider_shows_another_face(browser, lab):
    assert LESSON.exists(), "run: python notebooks/build.py execute 00"
    shutil.copy(LESSON, lab[1])
    page, complaints = opened(browser, lab, LESSON.name, 240)
    moved(move_and_look(page))
    errors = page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.error']")
    assert errors.count() == 0, errors.first.inner_text()
    assert not ours(complaints), complaints
    page.close()
