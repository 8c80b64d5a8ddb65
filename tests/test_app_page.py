"""The page of the filter in a real browser, as people use it: a file, a camera, the dials, a phone, no network. `make app` builds it."""

import base64
import io
import re
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from PIL import ImageOps
from skimage import data
from test_lessons_lab import FLAGS, browser  # noqa: F401  (a fixture)

from dvlatent import images
from dvlatent.cli.app import read_pages, serving
from dvlatent.distillation.filter import in_tone
from dvlatent.faces.align import Alignment, crop, paste_back

ROOT = Path(__file__).resolve().parent.parent
BUILT, AXE = ROOT / "build" / "app", ROOT / "app" / "node_modules" / "axe-core" / "axe.min.js"
pytestmark = [
    pytest.mark.skipif(not (BUILT / "index.html").is_file(), reason="the page is not built: run `make app`"),
    pytest.mark.xdist_group("page"),
]
READY, FOUND, LATER = re.compile("Ready|Listo"), re.compile("found|encontr"), 60_000


@pytest.fixture(scope="module")
def site():
    """The page on a port of this computer, as `dvlatent app` serves it."""
    with serving(read_pages(BUILT), "127.0.0.1", 0) as (server, url):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield url
        server.shutdown()


@pytest.fixture
def visit(browser, site):  # noqa: F811
    """Opens the page; gives it, with what the browser asked of others and what it complained about."""
    contexts = []

    def open_page(chromium=browser, wait=True, **options):
        context = chromium.new_context(**{"viewport": {"width": 1280, "height": 800}, "locale": "en-US", **options})
        contexts.append(context)
        page = context.new_page()
        page.asked, page.wrong = [], []
        page.on("request", lambda request: page.asked.append(request.url))
        page.on("pageerror", lambda error: page.wrong.append(str(error)))
        page.on("console", lambda message: page.wrong.append(message.text) if message.type == "error" else None)
        page.goto(site)
        if wait:
            says(page, READY)
        return page

    yield open_page
    for context in contexts:
        context.close()


def chromium_here():
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def says(page, words):
    from playwright.sync_api import expect

    expect(page.locator("#status")).to_have_text(words, timeout=LATER)


def file_of(pixels, kind="PNG"):
    buffer = io.BytesIO()
    Pillow.fromarray(pixels).save(buffer, kind, quality=95)
    return {"name": f"photo.{kind.lower()}", "mimeType": f"image/{kind.lower()}", "buffer": buffer.getvalue()}


def give(page, pixels, words=FOUND):
    page.check("#consent")
    page.set_input_files("#file", files=[file_of(pixels)])
    says(page, words)


def turn(page, name, value):
    page.locator(f"#dial-{name}").fill(str(value))


def pixels_of(page, canvas="#after"):
    """The canvas as bytes, [height, width, 3]."""
    url = page.locator(canvas).evaluate("canvas => canvas.toDataURL('image/png')")
    return np.asarray(Pillow.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB")).astype(int)


def until(page, holds):
    """Wait for a picture: a busy computer takes its time."""
    for _ in range(150):
        if holds():
            return
        page.wait_for_timeout(200)
    pytest.fail("it did not come to that")


def changed(page):
    """The edited picture, once it differs from the photo."""
    until(page, lambda: np.abs(pixels_of(page, "#before") - pixels_of(page)).max() > 8)
    page.wait_for_timeout(500)  # a newer wish of the dials may still be at work
    return pixels_of(page, "#before"), pixels_of(page)


def photos():
    """Photos of one person: sizes, turns, a face at the edge, without colors, toned."""
    whole = Pillow.fromarray(data.astronaut())
    for size in (300, 512, 900, 1600):
        yield whole.resize((size, size), Pillow.Resampling.LANCZOS)
    for angle in (-15, 10, 25):
        yield whole.rotate(angle, Pillow.Resampling.BICUBIC, fillcolor=(120, 120, 120))
    yield whole.crop((150, 20, 330, 250))  # the square leaves the photo on every side
    yield whole.crop((0, 0, 512, 240)).resize((1024, 480), Pillow.Resampling.BICUBIC)
    yield whole.transpose(Pillow.Transpose.FLIP_LEFT_RIGHT)
    gray = whole.convert("L")
    yield gray
    yield ImageOps.colorize(gray, (40, 22, 8), (255, 240, 214), mid=(160, 120, 80))  # sepia
    yield whole.resize((160, 160), Pillow.Resampling.LANCZOS)  # too small a face for the large network


ENGINE = """async ([photo, strength, runtime]) => {
  const { Engine } = await import(new URL("js/engine.js", document.baseURI).href);
  window.engine ??= new Engine();
  window.started ??= window.engine.call("init", { base: document.baseURI, runtime });
  const started = await window.started;
  const bitmap = await createImageBitmap(new Blob([Uint8Array.from(atob(photo), (letter) => letter.charCodeAt(0))]));
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height), context = canvas.getContext("2d");
  context.drawImage(bitmap, 0, 0);
  const { faces } = await window.engine.call("photo", { bitmap }, [bitmap]);
  const { width, height, data, left, top } = await window.engine.call("apply", { dials: { age: strength }, chosen: [0] });
  context.putImageData(new ImageData(new Uint8ClampedArray(data), width, height), left, top);
  const bytes = new Uint8Array(await (await canvas.convertToBlob({ type: "image/png" })).arrayBuffer());
  let text = "";
  for (let i = 0; i < bytes.length; i += 32768) text += String.fromCharCode(...bytes.subarray(i, i + 32768));
  return { quad: faces[0].quad, png: btoa(text), runtime: started.runtime };
}"""


def through_the_page(page, pixels, strength, runtime=None):
    """What the engine of the page makes of a photo, as whole numbers; and what else it says."""
    made = page.evaluate(ENGINE, [base64.b64encode(file_of(pixels)["buffer"]).decode(), strength, runtime])
    return np.asarray(Pillow.open(io.BytesIO(base64.b64decode(made.pop("png")))).convert("RGB")).astype(int), made


def test_the_page_and_python_make_the_same_picture(visit):
    from dvlatent.zoo import load

    page, older = visit(), load("age-filter")
    for number, photo in enumerate(photos()):
        pixels = np.asarray(photo.convert("RGB"))
        strength = older.high * (1 if number % 2 else -1)
        theirs, made = through_the_page(page, pixels, strength)
        ours = images.from_uint8(pixels)
        alignment = Alignment(tuple(map(tuple, made["quad"])), pixels.shape[:2])
        before = crop(ours, alignment, older.working_px(alignment.size_px, photo=True))
        laid = paste_back(torch.zeros_like(ours), in_tone(before, older(before, strength) - before) / 2, alignment)
        wanted = images.to_uint8(torch.where(laid == 0, ours, (ours + 2 * laid).clamp(-1, 1)))[0].astype(int)
        away = np.abs(theirs - wanted)
        outside = (laid == 0).all(1)[0].numpy()
        assert away.max() <= 2, (number, away.max())
        assert np.abs(theirs - pixels)[outside].max(initial=0) == 0, number
        assert np.abs(wanted - pixels).max() > 8, number


def test_a_graphics_processor_makes_the_same_picture(browser, visit):  # noqa: F811
    """Without one, the browser computes what it would do."""
    flags = "--enable-unsafe-webgpu --use-webgpu-adapter=swiftshader --enable-features=Vulkan".split()
    chromium = browser.browser_type.launch(executable_path=chromium_here(), args=[*FLAGS.split(), *flags])
    try:
        page = visit(chromium)
        if not page.evaluate("navigator.gpu?.requestAdapter().then(Boolean)"):
            pytest.skip("this browser has no WebGPU")
        assert page.evaluate("document.body.dataset.runtime") == "wasm"  # a computed one would be slow
        pixels = np.asarray(Pillow.fromarray(data.astronaut()).resize((160, 160)))  # a small face, for its small network
        (plain, _), (theirs, made) = through_the_page(page, pixels, 2), through_the_page(visit(chromium), pixels, 2, "webgpu")
        assert made["runtime"] == "webgpu"
        assert np.abs(theirs - plain).max() <= 1 and np.abs(theirs - pixels).max() > 8
    finally:
        chromium.close()


def test_a_photo_is_edited_and_nothing_is_asked_of_others(visit, site):
    page = visit()
    assert page.evaluate("crossOriginIsolated")
    give(page, data.astronaut(), re.compile("One face"))
    turn(page, "age", 2)
    before, after = changed(page)
    assert np.array_equal(before[400:], after[400:])  # far from the face nothing moves
    page.click("#reset")
    until(page, lambda: np.array_equal(pixels_of(page), before))
    assert not [url for url in page.asked if not url.startswith((site, "blob:", "data:"))]
    assert not page.wrong


def test_again_passes_the_result_through_and_undo_takes_it_back(visit):
    page = visit()
    give(page, data.astronaut())
    turn(page, "age", 1)
    first = changed(page)[1]
    page.click("#again")
    until(page, lambda: np.array_equal(pixels_of(page, "#before"), first) and np.abs(pixels_of(page) - first).max() > 8)
    page.click("#undo")
    until(page, lambda: np.array_equal(pixels_of(page, "#before"), data.astronaut()) and np.array_equal(pixels_of(page), first))


def test_several_faces_are_chosen_one_by_one(visit):
    one = data.astronaut()[:260, 120:340]
    page = visit()
    give(page, np.concatenate([one, one[:, ::-1]], axis=1), re.compile("2 faces"))
    turn(page, "age", 2)
    changed(page)
    page.locator("#faces button").first.click(force=True)
    assert page.locator("#faces button").first.get_attribute("aria-pressed") == "false"

    def one_of_two():
        away = np.abs(pixels_of(page) - pixels_of(page, "#before")).max((0, 2))
        left, right = away[:180].max(), away[260:].max()
        return min(left, right) == 0 and max(left, right) > 8

    until(page, one_of_two)


def test_without_consent_no_photo_is_taken_but_generated_faces_are(visit):
    page = visit()
    page.click("#choose")
    says(page, re.compile("Tick the box"))
    assert page.locator("#studio").is_hidden()
    page.locator("#samples button").first.click()
    says(page, FOUND)


@pytest.mark.parametrize(("body", "words"), [(b"no picture", "cannot be read"), (None, "No face")])
def test_what_cannot_be_edited_is_said_in_words(visit, body, words):
    page = visit()
    page.check("#consent")
    grey = file_of(np.full((200, 300, 3), 90, np.uint8))
    page.set_input_files("#file", files=[{**grey, "buffer": body or grey["buffer"]}])
    says(page, re.compile(words))


def test_the_saved_picture_is_the_one_on_screen_without_metadata(visit):
    page = visit()
    give(page, data.astronaut())
    turn(page, "smile", 1)
    after = changed(page)[1]
    with page.expect_download() as saved:
        page.click("#save")
    picture = Pillow.open(saved.value.path())
    assert saved.value.suggested_filename == "face-edited.png" and not picture.getexif() and not picture.text
    assert np.array_equal(np.asarray(picture.convert("RGB")).astype(int), after)


def test_by_keyboard_alone(visit):
    page = visit()
    page.locator("#samples button").first.press("Enter")
    says(page, FOUND)
    page.locator("#dial-age").press("End")
    assert "older" in page.locator("#dial-age").get_attribute("aria-valuetext")
    changed(page)
    page.locator("#divider").press("End")
    assert page.locator("#stage").evaluate("stage => stage.style.getPropertyValue('--split')") == "100%"
    page.locator("#strip").press("Enter")
    page.locator("#strip-dialog").wait_for(state="visible", timeout=LATER)
    assert pixels_of(page, "#strip-canvas").shape[1] == 5 * pixels_of(page, "#strip-canvas").shape[0]
    page.keyboard.press("Escape")
    assert page.locator("#strip-dialog").is_hidden()


@pytest.mark.parametrize("width", [360, 1280, 3840])
def test_nothing_is_cut_off_at_any_width(visit, width):
    page = visit(viewport={"width": width, "height": 800}, color_scheme="dark", reduced_motion="reduce")
    for studio in (False, True):
        if studio:
            page.locator("#samples button").first.click()
            says(page, FOUND)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        touched = "[...document.querySelectorAll('button, select')].filter((one) => one.offsetParent)"
        small = page.evaluate(f"{touched}.filter((one) => one.offsetHeight < 40).map((one) => one.id)")
        assert not small


def test_it_speaks_spanish(visit):
    page = visit(locale="es-MX")
    assert page.title() == "Filtro de caras" and page.locator("html").get_attribute("lang") == "es"
    assert "dispositivo" in page.locator(".privacy").text_content()


@pytest.mark.skipif(not AXE.is_file(), reason="axe-core is not installed: run `npm ci` in app/")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_accessibility_rule_is_broken(visit, scheme):
    page = visit(color_scheme=scheme)
    page.evaluate(AXE.read_text(encoding="utf-8"))
    for studio in (False, True):
        if studio:
            page.locator("#samples button").first.click()
            says(page, FOUND)
        broken = page.evaluate("axe.run().then(({ violations }) => violations.map(({ id, nodes }) => [id, nodes.map((one) => one.html)]))")
        assert not broken


def test_it_works_without_a_network_after_the_first_visit(visit):
    page = visit()
    page.evaluate("navigator.serviceWorker.ready.then(() => true)")
    kept = "() => caches.match('filters/smile.onnx').then(Boolean)"
    for _ in range(150):
        if page.evaluate(kept):
            break
        page.wait_for_timeout(200)
    page.context.set_offline(True)
    page.reload()
    says(page, READY)
    page.locator("#samples button").first.click()
    says(page, FOUND)
    for name in ("age", "gender", "smile"):
        turn(page, name, 1)
    changed(page)


def test_a_camera_is_followed_and_a_picture_kept(visit, tmp_path):
    from imageio_ffmpeg import write_frames

    film, whole = tmp_path / "camera.mjpeg", Pillow.fromarray(data.astronaut()).resize((700, 700))
    writer = write_frames(str(film), (640, 480), fps=15, codec="mjpeg", output_params=["-f", "mjpeg", "-q:v", "3"])
    writer.send(None)
    for frame in range(30):
        left, top = int(30 + 20 * np.sin(frame / 5)), int(10 + 10 * np.cos(frame / 5))
        writer.send(np.ascontiguousarray(whole.crop((left, top, left + 640, top + 480))))
    writer.close()
    fake = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", f"--use-file-for-fake-video-capture={film}"]
    page = visit()  # for its playwright
    chromium = page.context.browser.browser_type.launch(executable_path=chromium_here(), args=[*FLAGS.split(), *fake])
    try:
        phone = visit(chromium, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True, permissions=["camera"])
        phone.tap("#consent")
        phone.tap("#live")
        turn(phone, "age", 2)
        says(phone, re.compile("fps"))
        assert float(phone.evaluate("document.body.dataset.fps")) > 0
        changed(phone)
        phone.tap("#snap")
        says(phone, FOUND)
        changed(phone)
        assert not phone.wrong
    finally:
        chromium.close()
