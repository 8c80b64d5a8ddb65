"""Figures: faces at whole pixels, alt text always there, nothing too small to read."""

import base64
import io
from itertools import pairwise

import numpy as np
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.image import AxesImage
from matplotlib.text import Text
from PIL import Image as Pillow

from dvlatent.errors import ShapeError
from dvlatent.images import resize, to_uint8
from dvlatent.lessons import plot


def noise(count, size, seed=0):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def pixels_of(fig):
    """The figure's pixels, before JPEG."""
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def holds(picture, part):
    """Is `part` somewhere in `picture`, pixel for pixel?"""
    windows = np.argwhere((picture[: len(picture) - len(part) + 1, : picture.shape[1] - part.shape[1] + 1] == part[0, 0]).all(-1))
    return any(np.array_equal(picture[y : y + len(part), x : x + part.shape[1]], part) for y, x in windows)


def words(fig):
    return [text.get_text() for text in fig.findobj(Text) if text.get_text()]


@pytest.mark.parametrize(("size", "count", "columns"), [(256, 3, 3), (256, 5, 5), (100, 7, 4), (28, 6, 3), (61, 2, 2)])
def test_small_faces_are_shown_without_resampling(size, count, columns):
    image = noise(count, size)
    fig = plot.faces(image, columns, titles=[str(i) for i in range(count)], caption="Look.")
    shown = [picture.get_array() for picture in fig.findobj(AxesImage)]
    times = shown[0].shape[0] // size
    picture = pixels_of(fig)
    for face, pixels in zip(shown, to_uint8(image), strict=True):
        assert np.array_equal(face, pixels.repeat(times, 0).repeat(times, 1))
        assert holds(picture, face)


def test_large_faces_shrink_by_area_and_only_once():
    image = noise(4, 1024)
    fig = plot.strip(image)
    face = fig.findobj(AxesImage)[0].get_array()
    assert face.shape[0] < 1024 and np.array_equal(face, to_uint8(resize(image[:1], face.shape[0]))[0])
    assert holds(pixels_of(fig), face)


@pytest.mark.parametrize("columns", range(1, 9))
@pytest.mark.parametrize("size", [28, 64, 256, 1024])
def test_a_figure_is_as_wide_as_a_page_at_most_and_sharp(columns, size):
    fig = plot.faces(noise(columns, size)[:, :1], columns)
    assert fig.get_figwidth() <= plot.WIDTH + 0.1
    assert fig.get_figwidth() >= min(plot.WIDTH, columns * plot.TALLEST) - 0.1
    assert 90 <= fig.dpi <= 300


def test_without_columns_a_grid_is_wider_than_high():
    width, height = plot.faces(noise(18, 64)).get_size_inches()
    assert 1.5 < width / height < 2.5


def test_titles_and_captions_are_written_whole():
    caption = "Every word of a long caption is kept, however many lines it takes. " * 4
    fig = plot.strip(noise(2, 64), titles=["left\nface", "right"], caption=caption)
    assert {"left\nface", "right"} < set(words(fig))
    assert " ".join(words(fig)[-1].split()) == caption.strip()
    pixels_of(fig)
    for text in fig.findobj(Text):
        box = text.get_window_extent()
        assert not text.get_text() or (box.x0 >= -1 and box.y0 >= -1 and box.x1 <= fig.bbox.width + 1 and box.y1 <= fig.bbox.height + 1)


@pytest.mark.parametrize("rows", [["low psi", "psi 1"], noise(2, 64)], ids=["words", "faces"])
@pytest.mark.parametrize("columns", [["a", "b", "c"], noise(3, 64)], ids=["words", "faces"])
def test_a_labeled_grid_has_its_headers_where_they_belong(rows, columns):
    body = noise(6, 64, seed=1)
    fig = plot.labeled_grid(body, rows, columns, corner="pose from the left")
    boxes = {tuple(picture.get_array()[0, 0]): picture.axes.get_position() for picture in fig.findobj(AxesImage)}
    assert len(fig.findobj(AxesImage)) == 6 + (0 if isinstance(rows, list) else 2) + (0 if isinstance(columns, list) else 3)
    at = [boxes[tuple(face[0, 0])] for face in to_uint8(body)]
    assert at[0].y0 == at[1].y0 == at[2].y0 > at[3].y0 and at[0].x0 == at[3].x0 < at[1].x0
    said = words(fig)
    assert [word in said for word in ("psi 1", "c")] == [isinstance(rows, list), isinstance(columns, list)]
    assert ("pose from the left" in said) == (not isinstance(rows, list) and not isinstance(columns, list))


def test_headers_of_two_lines_stay_above_the_faces():
    fig = plot.labeled_grid(noise(4, 128), ["a", "b"], ["PC1\n(male +0.5)", "PC2"])
    pixels_of(fig)
    faces = max(picture.axes.get_window_extent().y1 for picture in fig.findobj(AxesImage))
    (header,) = (text for text in fig.findobj(Text) if text.get_text().startswith("PC1"))
    assert header.get_window_extent().y0 >= faces - 1


def test_pictures_of_noise_can_be_shown():
    fig = plot.labeled_grid(noise(4, 256), ["a", "b"], ["c", "d"])
    data, kind = plot.encode(fig)
    assert kind == "jpeg" and Pillow.open(io.BytesIO(data)).size[0] > 500


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plot.strip(noise(2, 8)[0]), r"need square images.*this is shape \[3, 8, 8\]"),
        (lambda: plot.strip(noise(2, 8)[:0]), "at least one"),
        (lambda: plot.faces([1, 2]), "this is a list"),
        (lambda: plot.strip(noise(2, 8)[..., :4]), "square"),
        (lambda: plot.strip(noise(2, 8), titles=["one"]), "2 faces were given and 1 titles"),
        (lambda: plot.labeled_grid(noise(5, 8), ["a", "b"], ["c", "d"]), "need 4 faces; 5 were given"),
        (lambda: plot.show_film(noise(1, 8), alt="one face that moves"), "at least two frames"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_words(call, message):
    with pytest.raises(ShapeError, match=message):
        call()


@pytest.mark.parametrize("alt", ["", "   ", "figure", "a face", None])
def test_a_picture_without_alt_text_is_refused(alt):
    with pytest.raises(ValueError, match="tells nothing to someone who cannot see"):
        plot.show(plot.strip(noise(1, 8)), alt=alt)


@pytest.fixture
def output_of():
    """What a call shows in a notebook."""
    InteractiveShell.instance()

    def output_of(call):
        with capture_output() as captured:
            call()
        (shown,) = captured.outputs
        return shown

    yield output_of
    InteractiveShell.clear_instance()


def test_outside_a_notebook_the_alt_text_is_printed(capsys):
    plot.show(plot.strip(noise(1, 8)), alt="One face, in very few pixels.")
    assert capsys.readouterr().out == "[picture: One face, in very few pixels.]\n"


def test_photographs_travel_as_jpeg_and_charts_as_png_with_alt_text_and_width(output_of):
    fig, axes = plot.chart()
    axes.plot([1, 2, 3])
    for picture, kind in [(plot.strip(noise(3, 64)), "jpeg"), (fig, "png")]:
        shown = output_of(lambda picture=picture: plot.show(picture, alt="Three  faces\nin a row."))
        data = shown.data[f"image/{kind}"]
        data = base64.b64decode(data) if isinstance(data, str) else data
        assert Pillow.open(io.BytesIO(data)).format == kind.upper()
        assert shown.data["text/plain"] == "Three faces in a row."
        metadata = shown.metadata[f"image/{kind}"]
        assert metadata["alt"] == "Three faces in a row." and 1050 < metadata["width"] <= 1110


def test_showing_twice_gives_the_same_bytes():
    assert plot.encode(plot.strip(noise(2, 64))) == plot.encode(plot.strip(noise(2, 64)))


def test_no_text_is_too_small_to_read():
    fig, axes = plot.chart()
    axes.text(0, 0, "tiny", fontsize=4)
    axes.plot([1, 2], label="a line")
    axes.legend(fontsize=6)
    plot.encode(fig)
    assert min(text.get_fontsize() for text in fig.findobj(Text)) >= plot.SMALLEST


def test_colors_differ_without_color():
    """Neighbours in the cycle differ in lightness, so that they survive any colour vision and a gray print."""
    light = [np.dot([int(c[i : i + 2], 16) for i in (1, 3, 5)], [0.2126, 0.7152, 0.0722]) for c in plot.COLORS]
    assert min(abs(a - b) for a, b in pairwise(light)) > 8


def test_a_film_moves_and_carries_alt_text(output_of):
    shown = output_of(lambda: plot.show_film(noise(5, 64), alt="A face that turns around.", seconds=2, size_px=32))
    data = shown.data["image/png"]
    film = Pillow.open(io.BytesIO(base64.b64decode(data) if isinstance(data, str) else data))
    assert (film.n_frames, film.size, shown.metadata["image/png"]["alt"]) == (5, (32, 32), "A face that turns around.")
