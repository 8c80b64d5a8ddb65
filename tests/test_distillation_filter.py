"""Filters: the photo is never redrawn, only changed; nothing at strength 0, nothing outside the face; the same answers from ONNX."""

import io

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from torch.testing import assert_close

from dvlatent import checkpoint, images, load
from dvlatent.distillation.filter import LARGE, Filter, add, apply_to_photo, changes, export_onnx, export_web, faces_of, in_words, quantize
from dvlatent.distillation.pix2pixhd import Enhanced, LocalEnhancer, Student
from dvlatent.errors import CheckpointError, NoFace, ShapeError

SIZES = {"width": 4, "downs": 3, "blocks": 1, "reach": 2.0, "dial": 4}


def student(seed=0):
    """An untrained one that does change pictures."""
    torch.manual_seed(seed)
    net = Student(**SIZES).eval()
    with torch.no_grad():
        for weight in net.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return net


def enhancer(seed=0):
    """An untrained one that does draw something."""
    torch.manual_seed(seed)
    net = LocalEnhancer(width=4, blocks=1).eval()
    with torch.no_grad():
        for weight in net.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return net


def brighter(image, strength):
    return image + 0.1 * strength.view(-1, 1, 1, 1)


def pictures(count, size, seed=0):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.fixture(scope="module")
def older(aligner):
    return Filter(brighter, "age", aligner=aligner)


def test_at_its_own_size_a_filter_is_its_network():
    net = student()
    one, faces = Filter(net, "age", size_px=32), pictures(3, 32)
    strength = torch.tensor([-2.0, 0.5, 2.0])
    assert_close(one(faces, strength), net(faces, strength))
    assert_close(one(faces[:1], 0.5), net(faces[:1], torch.tensor([0.5])))
    assert (one(faces, 2.0) - faces).abs().mean() > 0.01  # it does something


def test_large_faces_go_through_the_large_network():
    """From 1.5 times its size on; what it adds at twice the size is finer than what an enlarged change can be."""
    net = student()
    one = Filter(net, "age", size_px=32, large=Enhanced(net, enhancer()))
    assert [one.working_px(side) for side in (20, 47, 48, 64, 1024)] == [32, 32, 64, 64, 64]
    faces = pictures(2, 64)
    assert_close(one(faces, 2.0), one.large(faces, torch.full((2,), 2.0)))
    small, plain = pictures(1, 40), Filter(net, "age", size_px=32)
    assert torch.equal(one(small, 2.0), plain(small, 2.0))
    assert not torch.equal(one(faces, 2.0), plain(faces, 2.0))
    assert torch.equal(one(faces, 0), faces)


@pytest.mark.parametrize("size", [20, 32, 100, 1024])
def test_strength_zero_gives_back_every_bit(size):
    faces = pictures(1, size)
    assert torch.equal(Filter(student(), "age", size_px=32)(faces, 0), faces)


@pytest.mark.parametrize("size", [48, 64, 256])
def test_only_the_change_is_enlarged(size):
    """So what is sharp stays sharp: the finest detail of the photo is in the result, untouched."""
    one, faces = Filter(student(), "age", size_px=32), 0.4 * pictures(2, size)
    edited, change = one(faces, 1.0), one.change(images.resize(faces, 32), 1.0)
    assert_close(edited, (faces + images.resize(change, size)).clamp(-1, 1))
    checker = torch.ones(size, size)
    checker[::2, ::2] = checker[1::2, 1::2] = -1
    assert change.abs().max() < 0.6, "nothing is clamped here"
    assert_close((edited * checker).mean(dim=(2, 3)), (faces * checker).mean(dim=(2, 3)), atol=2e-3, rtol=0)
    assert (edited - faces).abs().mean() > 0.01


def test_results_stay_in_range():
    assert float(add(torch.full((1, 3, 8, 8), 0.9), torch.full((1, 3, 4, 4), 0.5)).max()) == 1.0


@pytest.mark.parametrize("strength", [2.5, -2.01, float("nan"), float("inf")])
def test_strengths_that_were_not_learned_are_refused(strength):
    with pytest.raises(ShapeError, match=r"-2 \(younger\) to \+2 \(older\)"):
        Filter(brighter, "age")(pictures(1, 32), strength)


def test_other_shapes_are_refused():
    one = Filter(brighter, "age")
    for wrong in (torch.zeros(3, 32, 32), torch.zeros(1, 3, 32, 40), torch.zeros(1, 3, 32, 32, dtype=torch.uint8)):
        with pytest.raises(ShapeError, match="square aligned faces"):
            one(wrong, 1)
    with pytest.raises(ShapeError, match="one for each of 2 faces"):
        one(pictures(2, 32), torch.ones(3))
    with pytest.raises(NoFace, match="has no aligner"):
        one.apply_to_photo(torch.zeros(1, 3, 64, 64), 1)


def test_a_photo_changes_in_the_face_and_nowhere_else(older, aligner, photo):
    alignment, face = aligner(photo, size_px=256)
    edited = older.apply_to_photo(photo, 2.0)
    xs, ys = zip(*alignment.quad, strict=True)
    inside = torch.zeros(512, 512, dtype=torch.bool)
    inside[max(0, int(min(ys))) : int(max(ys)) + 2, max(0, int(min(xs))) : int(max(xs)) + 2] = True
    assert torch.equal(edited[..., ~inside], photo[..., ~inside]) and not torch.equal(edited, photo)
    again = aligner(edited, size_px=256)[1]
    center = (slice(None), slice(None), slice(100, 156), slice(100, 156))
    assert float((again[center] - face[center]).mean()) == pytest.approx(0.2, abs=0.02)
    at = [int(sum(values) / 4) for values in (ys, xs)]  # in the middle every pixel was moved by exactly as much
    assert_close(edited[..., at[0], at[1]], (photo[..., at[0], at[1]] + 0.2).clamp(-1, 1), atol=1e-5, rtol=0)
    assert torch.equal(older.apply_to_photo(photo, 0), photo)


def test_all_faces_or_one(older, photo):
    half = photo[..., 40:360]
    both = torch.cat([half, half.flip(-1)], dim=-1)
    moved = [(older.apply_to_photo(both, 1, face) - both).abs().mean(dim=(0, 1, 2)) > 1e-4 for face in (None, 0, 1)]
    sides = [(bool(one[:320].any()), bool(one[320:].any())) for one in moved]
    assert sides[0] == (True, True) and sorted(sides[1:]) == [(False, True), (True, False)]


@pytest.mark.parametrize("quality", [60, 75, 95])
def test_a_fold_of_a_suit_is_no_second_face(older, photo, quality, tmp_path):
    pixels = images.to_uint8(photo)[0]
    Pillow.fromarray(pixels).save(tmp_path / "her.jpg", quality=quality)
    her = images.read(tmp_path / "her.jpg")
    change = (older.apply_to_photo(her, 2.0) - her).abs().amax((0, 1))
    assert change[:220].max() > 0.1 and change[240:].max() == 0  # her face; the suit below


def test_photos_without_faces_are_refused(older):
    with pytest.raises(NoFace, match="no face was found in this 96x64 photo"):
        older.apply_to_photo(torch.zeros(1, 3, 64, 96), 1)


def toned(photo):
    """Her photo in sepia, as a scanner gives it: each color a curve of the brightness, and JPEG."""
    gray = (photo.mean(1, keepdim=True) + 1) / 2
    sepia = torch.cat([gray**0.8, 0.93 * gray**0.95, 0.8 * gray**1.15], dim=1) * 2 - 1
    file = io.BytesIO()
    Pillow.fromarray(images.to_uint8(sepia)[0]).save(file, "JPEG", quality=90)
    return images.read(file)


def test_no_colors_come_that_a_photo_lacks(aligner, photo):
    def reddish(image, strength):
        return image + torch.tensor([0.4, -0.1, 0.0])[:, None, None]

    one, inside = Filter(reddish, "age", aligner=aligner), (..., slice(100, 160), slice(190, 250))
    gray = photo.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    edited = one.apply_to_photo(gray, 1.0)
    assert torch.equal(edited[:, 0], edited[:, 1]) and torch.equal(edited[:, 0], edited[:, 2])
    assert float((edited - gray)[inside].mean()) == pytest.approx(0.1, abs=0.01)
    sepia = toned(photo)
    edited = one.apply_to_photo(sepia, 1.0)
    level, before, after = sepia.mean(1)[inside], sepia[inside][0].flatten(1), edited[inside][0].flatten(1)
    curve = [np.polyfit(before.mean(0), color, 3) for color in before]
    left = [np.abs(np.polyval(known, after.mean(0)) - color.numpy()).mean() for known, color in zip(curve, after, strict=True)]
    assert float((edited.mean(1)[inside] - level).mean()) == pytest.approx(0.1, abs=0.02) and max(left) < 3 / 127.5  # from red: 51 levels
    colors = one.apply_to_photo(photo, 1.0) - photo
    assert float(colors[:, 0][inside].mean()) > 0.2 and float(colors[:, 1][inside].mean()) < -0.05  # a color photo gets all of it
    pale = photo.mean(1, keepdim=True) + 0.25 * (photo - photo.mean(1, keepdim=True))
    assert float((one.apply_to_photo(pale, 1.0) - pale)[:, 1][inside].mean()) < -0.05


def test_bytes_are_edited_as_floats_are(older, photo):
    pixels = images.to_uint8(photo)[0]
    picture = images.Picture(pixels)
    steps, found = [(older, 2.0)], faces_of(picture.shown, [(older, 2.0)])
    edited = picture.changed(changes(picture.shown, steps, found))
    assert np.abs(edited.pixels.astype(int) - images.to_uint8(older.apply_to_photo(photo, 2.0))[0]).max() <= 1
    assert (edited.pixels[240:] == pixels[240:]).all() and picture.pixels is pixels


def test_years_are_said_where_they_are_known():
    table = {"years": {"strength": [-2, -1, 1, 2], "years": [-11, -7, 11, 23]}}
    one = Filter(brighter, "age", about=table)
    said = [in_words(one, strength) for strength in (2, 1.5, 0, -1)]
    assert said == ["age +2 (about 23 years older)", "age +1.5 (about 17 years older)", "age +0", "age -1 (about 7 years younger)"]
    for odd in (3, {"strength": [1]}, {"strength": [1], "years": ["x"]}, {"strength": 1, "years": 2}):
        assert in_words(Filter(brighter, "age", about={"years": odd}), 2) == "age +2"


def test_years_and_strengths_are_two_readings_of_one_dial():
    one = Filter(brighter, "age", about={"years": {"strength": [-2, -1, 1, 2], "years": [-11, -7, 11, 23]}})
    assert [one.strength_of(years) for years in (23, 17, 0, -7)] == [2, 1.5, 0, -1]
    assert all(abs(one.years_of(one.strength_of(years)) - years) < 1e-9 for years in (-10, -3, 4, 20))
    with pytest.raises(ShapeError, match=r"-11 to \+23 years, not to \+40"):
        one.strength_of(40)
    with pytest.raises(ShapeError, match="does not say"):
        Filter(brighter, "age").strength_of(10)


def test_a_chain_is_one_after_the_other(older, photo):
    other = Filter(lambda image, strength: image * (1 - 0.2 * strength.view(-1, 1, 1, 1)), "smile", aligner=older.aligner)  # greyer
    chained, reverse = (apply_to_photo(photo, steps) for steps in ([(older, 1), (other, 2)], [(other, 2), (older, 1)]))
    assert not torch.allclose(chained, reverse, atol=1e-2)
    _, face = older.aligner(photo, size_px=256)
    wanted, found = other(older(face, 1), 2) - face, older.aligner(chained, size_px=256)[1] - face
    center = (slice(None), slice(None), slice(90, 170), slice(90, 170))
    assert (wanted[center] - found[center]).abs().mean() < 0.1 * wanted[center].abs().mean()
    assert torch.equal(apply_to_photo(photo, []), photo)


def test_onnx_gives_the_same_answers(tmp_path):
    import onnxruntime

    one = Filter(student(), "age", size_px=32)
    session = onnxruntime.InferenceSession(export_onnx(one, tmp_path / "age.onnx").read_bytes(), providers=["CPUExecutionProvider"])
    for batch, height, width in ((1, 32, 32), (3, 32, 32), (2, 64, 40)):
        faces = torch.cat([pictures(batch, 64)[..., :height, :width]])
        strength = torch.linspace(-2, 2, batch)
        (given,) = session.run(None, {"image": faces.numpy(), "strength": strength.numpy()})
        assert_close(torch.from_numpy(given), one.network(faces, strength), atol=2e-5, rtol=0)
    assert [path.name for path in tmp_path.iterdir()] == ["age.onnx"]
    with pytest.raises(ShapeError, match="one network only, for faces of 32 px"):
        export_onnx(one, tmp_path / "large.onnx", large=True)
    both = Filter(student(), "age", size_px=32, large=Enhanced(student(), enhancer()))
    session = onnxruntime.InferenceSession(str(export_onnx(both, tmp_path / "large.onnx", large=True)), providers=["CPUExecutionProvider"])
    faces, strength = pictures(2, 64), torch.tensor([2.0, -1.0])
    assert_close(
        torch.from_numpy(session.run(None, {"image": faces.numpy(), "strength": strength.numpy()})[0]),
        both(faces, strength),
        atol=2e-5,
        rtol=0,
    )
    with pytest.raises(ShapeError, match=r"ends in \.onnx"):
        export_onnx(one, tmp_path / "age.bin")


def saved(path, **changes):
    net = student()
    about = {"kind": "filter", **SIZES, "direction": "age", "strengths": [-2, 2], "size_px": 32, **changes}
    checkpoint.save(path, {name: tensor.half() for name, tensor in net.state_dict().items()}, about)
    return net


def test_a_page_gets_a_third_of_the_bytes_and_nearly_the_same_picture(tmp_path):
    """The file is read back by the obvious loop: 16 bits first, then the bytes, each times the scale of its kernel."""
    import onnx
    import onnxruntime

    one, faces, strength = load("age-filter"), pictures(1, 64), np.float32([2.0])
    about = export_web(one, tmp_path)
    file, wide = (tmp_path / about["weights"]).read_bytes(), []
    export_onnx(one, tmp_path / "whole.onnx")
    assert len(file) < 0.32 * export_onnx(one, tmp_path / "whole-large.onnx", large=True).stat().st_size  # it holds both networks
    halves = np.frombuffer(file, "<f2", sum(count // shared if shared else count for count, shared in about["parts"])).astype(np.float32)
    whole, half, byte = np.frombuffer(file, np.int8, offset=2 * len(halves)), 0, 0
    for count, shared in about["parts"]:
        for _ in range(count // (shared or count)):
            if shared:
                wide.append(whole[byte : byte + shared] * halves[half])
                half, byte = half + 1, byte + shared
            else:
                wide.append(halves[half : half + count])
                half += count
    assert (half, byte) == (len(halves), len(whole))
    (tmp_path / about["weights"]).write_bytes(np.concatenate(wide).astype("<f4").tobytes())
    feed, cpu = {"image": faces.numpy(), "strength": strength}, ["CPUExecutionProvider"]
    for graph, other in ((about["file"], "whole.onnx"), (about["large"], "whole-large.onnx")):  # both read one file of weights
        onnx.save(onnx.load(tmp_path / graph), tmp_path / "read.onnx")
        made, wanted = (onnxruntime.InferenceSession(tmp_path / name, providers=cpu).run(None, feed)[0] for name in ("read.onnx", other))
        rounding, change = np.abs(made - wanted).mean() * 127.5, np.abs(wanted - feed["image"]).mean() * 127.5
        assert rounding < 0.3 and rounding < 0.05 * change, graph


def test_rounding_keeps_every_kernel_to_half_a_step():
    weights = torch.randn(LARGE // 90 + 1, 10, 3, 3, generator=torch.Generator().manual_seed(0)).numpy()
    weights *= np.logspace(-2, 0, 10, dtype=np.float32)[None, :, None, None]  # a scale for all would lose the small ones
    narrow, scales = quantize(weights)
    assert narrow.dtype == np.int8 and (np.abs(narrow * scales.astype(np.float32) - weights) <= 0.52 * scales.astype(np.float32)).all()
    small, none = quantize(weights[:2])
    assert small.dtype == np.float16 and none.size == 0


def test_a_filter_comes_back_from_its_file(tmp_path):
    net = saved(tmp_path / "mine.safetensors")
    one, faces = load(tmp_path / "mine.safetensors"), pictures(1, 32)
    assert isinstance(one, Filter) and (one.name, one.low, one.high, one.size_px) == ("age", -2, 2, 32)
    assert_close(one(faces, 1.0), net(faces, torch.ones(1)), atol=5e-3, rtol=0)  # half precision


def test_files_that_are_no_filters_are_refused(tmp_path):
    saved(tmp_path / "wide.safetensors", width=8)
    saved(tmp_path / "odd.safetensors", strengths=3)
    saved(tmp_path / "huge.safetensors", width=200, downs=40)  # more memory than any computer has: asked for by nobody
    saved(tmp_path / "endless.safetensors", blocks=10**12)
    about = {"kind": "filter", "direction": "age"}
    checkpoint.save(tmp_path / "bare.safetensors", {"weight": torch.zeros(1)}, about)
    whole = {"wide": "does not fit", "huge": "does not fit", "endless": "from 1 to 256"}
    for name, words in {**whole, "odd": "not a complete filter", "bare": "not a complete filter"}.items():
        with pytest.raises(CheckpointError, match=words):
            load(tmp_path / f"{name}.safetensors")
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load(tmp_path / "text.safetensors")


def test_faces_of_any_number_type_and_gradients_are_left_alone():
    faces = pictures(1, 64).requires_grad_()
    edited = Filter(student(), "age", size_px=32)(faces, 1)
    assert not edited.requires_grad and np.isfinite(edited.numpy()).all()
