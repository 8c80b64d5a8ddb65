"""Filters: one edit bottled into a feed-forward network, photo in, edited photo out. Taught in notebook 07.

A filter sees a small picture, and what it adds is enlarged to the size of the photo. So the photo itself is never redrawn: skin and hair
stay as sharp as they were, and strength 0 gives the photo back, bit for bit. A filter that moves pixels (`warp.WarpNetwork`) adds nothing:
the photo's own pixels go elsewhere.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from dvlatent import images
from dvlatent.distillation import warp
from dvlatent.errors import NoFace, ShapeError
from dvlatent.faces.align import Aligner, Alignment, crop, laid
from dvlatent.types import Image

if TYPE_CHECKING:
    import numpy as np

Photo = Float[Tensor, "1 3 height width"]
Strength = float | Float[Tensor, " batch"]
WORDS = {  # minus, plus
    "age": ("younger", "older"),
    "gender": ("perceived female", "perceived male"),
    "smile": ("less", "more"),
    "fuller": ("thinner", "fuller"),
}
TONED = 0.15  # of their distance from gray: a photo is toned where its colors follow from its brightness up to so much, or to one level
LARGE = 40_000  # weights of a convolution from which a page gets them in 8 bits


class Network(Protocol):
    """What a filter is made of: `pix2pixhd.Student`, `warp.WarpNetwork`, or anything that is called in the same way."""

    def __call__(self, image: Image, strength: Float[Tensor, " batch"]) -> Image:
        """Pictures and one strength for each -> the edited pictures, of the same size."""
        ...


class Filter:
    """One edit with a dial: `older(face, strength=+2)` for an aligned face of any size, `older.apply_to_photo(photo, +2)` for any photo.

    `low` and `high` are the strengths that the network learned, in steps of its direction. `large`, if there is one, does the same at twice
    `size_px`, for larger faces and for photos. `aligner` is an `Aligner`, or a function that makes one when it is first
    needed. Taught in notebook 07.
    """

    def __init__(
        self,
        network: Network,
        name: str,
        low: float = -2.0,
        high: float = 2.0,
        size_px: int = 256,
        aligner: Aligner | Callable[[], Aligner] | None = None,
        about: dict[str, Any] | None = None,
        large: Network | None = None,
    ) -> None:
        self.network, self.large = (one.folded() if hasattr(one, "folded") else one for one in (network, large))  # the same outputs, faster
        self.name, self.low, self.high, self.size_px, self.about = name, float(low), float(high), size_px, about or {}
        self.moves = isinstance(network, warp.WarpNetwork)  # pixels, instead of adding colors
        self.unit = str(self.about.get("unit", "steps"))  # of the strength: steps of its direction, or years
        self.dial = _dial(self.about)  # [(strength, years)], where the file says what its strengths are worth
        self._aligner = aligner

    @torch.no_grad()
    def __call__(self, face: Image, strength: Strength) -> Image:
        """The faces edited: [batch, 3, size, size] in [-1, 1], aligned as FFHQ is, any size; one strength, or one for each.

        Raises ShapeError for pictures that are not square, and for a strength that the network never learned.
        """
        if face.ndim != 4 or face.shape[1] != 3 or face.shape[2] != face.shape[3] or not face.is_floating_point():
            raise ShapeError(
                f"a filter takes square aligned faces, [batch, 3, size, size], floats in [-1, 1]; this is {face.dtype} of shape "
                f"{list(face.shape)}. For a whole photo say apply_to_photo(photo, strength); for one face without its batch, face[None]."
            )
        if self.moves:
            return warp.warp(face, self.flow(face, strength))
        return add(face, self.change(images.resize(face, self.working_px(face.shape[2])), strength))

    def working_px(self, side_px: float, photo: bool = False) -> int:
        """The size at which a face of so many pixels is worked on: `size_px`, or twice that, in a `photo` even if it is half as large.

        The large network draws lines and hair more cleanly, and takes three times as long.
        """
        return 2 * self.size_px if self.large and side_px >= (0.5 if photo else 1.5) * self.size_px else self.size_px

    @torch.no_grad()
    def change(self, small: Image, strength: Strength) -> Image:
        """What the filter adds to faces at one of its own sizes: [batch, 3, size_px, size_px], from -2 to 2."""
        small = small.float()  # as its weights are
        network = self.large if self.large and small.shape[2] == 2 * self.size_px else self.network
        return network(small, self.check(strength, len(small)).to(small)) - small

    @torch.no_grad()
    def flow(self, face: Image, strength: Strength) -> warp.Flow:
        """Where the pixels of faces come from, for a filter that moves them."""
        return self.network.flow(images.resize(face, self.size_px).float(), self.check(strength, len(face)).to(face.device))

    def apply_to_photo(self, photo: Photo, strength: float, face: int | None = None) -> Photo:
        """Edit every face of a photo in its place, or only one (0 is the largest). Raises NoFace if there is none."""
        return apply_to_photo(photo, [(self, strength)], face)

    @property
    def aligner(self) -> Aligner:
        """What finds faces in photos. Raises NoFace if the filter was made without one."""
        if self._aligner is None:
            raise NoFace(f"the filter '{self.name}' has no aligner, so it finds no faces. Make it as Filter(..., aligner=load('aligner')).")
        if not hasattr(self._aligner, "find"):
            self._aligner = self._aligner()
        return self._aligner

    def years_of(self, strength: float) -> float:
        """How much older a strength makes adults look: the median of two outside readers. Raises ShapeError if the file does not say."""
        return self._read_dial(strength, 0)

    def strength_of(self, years: float) -> float:
        """The strength that makes adults look so many years older. Raises ShapeError for more than it can, or if its file does not say."""
        return self._read_dial(years, 1)

    def _read_dial(self, value: float, column: int) -> float:
        import numpy as np

        if not self.dial:
            raise ShapeError(f"the file of the filter '{self.name}' does not say what its strengths are in years. Give a strength.")
        known, wanted = (np.array(self.dial)[:, index] for index in (column, 1 - column))
        if not known[0] <= value <= known[-1]:
            unit = ("of strength", "years")[column]
            raise ShapeError(f"the filter '{self.name}' goes from {known[0]:+g} to {known[-1]:+g} {unit}, not to {value:+g}.")
        return float(np.interp(value, known, wanted))

    def check(self, strength: Strength, batch: int = 1) -> Float[Tensor, " batch"]:
        """The strengths, one for each of a batch. Raises ShapeError for those that the network never learned."""
        amount = torch.as_tensor(strength, dtype=torch.float32).detach().reshape(-1)
        if len(amount) not in (1, batch):
            raise ShapeError(f"one strength, or one for each of {batch} faces, was needed; these are {len(amount)}.")
        outside = amount[~((amount >= self.low) & (amount <= self.high))]
        if len(outside):
            minus, plus = WORDS.get(self.name, ("minus", "plus"))
            raise ShapeError(
                f"strength {float(outside[0]):+g} is beyond what the filter '{self.name}' learned: {self.low:+g} ({minus}) to "
                f"{self.high:+g} ({plus}). Stay within."
            )
        return amount.expand(batch)


def in_words(one: Filter, strength: float) -> str:
    """ "age +2 (about 23 years older)": a filter's name and strength, and what it does where the filter's file says so."""
    words, years = f"{one.name} {strength:+g}", one.years_of(strength) if one.dial else 0.0
    return f"{words} (about {abs(years):.0f} years {'older' if years > 0 else 'younger'})" if abs(years) >= 0.5 else words


def _dial(about: dict[str, Any]) -> list[tuple[float, float]]:
    """Strengths and the years that each is worth, rising; none for a file that does not say so."""
    try:
        table = about["years"]
        known = sorted([(0.0, 0.0), *zip(map(float, table["strength"]), map(float, table["years"]), strict=True)])
    except (KeyError, TypeError, ValueError, AttributeError):  # a file of someone's, or none
        return []
    return known if all(a[0] < b[0] and a[1] < b[1] for a, b in pairwise(known)) else []


def add(face: Image, change: Image) -> Image:
    """A change of any size added to faces of any size, within [-1, 1]."""
    return (face + images.resize(change, tuple(face.shape[2:])).to(face)).clamp(-1, 1)


Steps = Sequence[tuple[Filter, float]]


def apply_to_photo(photo: Photo, steps: Steps, face: int | None = None) -> Photo:
    """Several filters, one after the other, on the faces of a photo: `apply_to_photo(photo, [(older, 2), (smile, 1)])`.

    Faces are found once, and cut out small. The change is laid over the photo and fades at the edges of the face's square. So only the
    change is resampled, and outside the square every bit stays. Filters that move pixels come last. `face` chooses one face (0 is the
    largest), None all of them. Raises NoFace if there is none.
    """
    if not steps:
        return photo.clone()
    for alignment in faces_of(photo, steps, face):
        photo = lay(photo, *_edit(photo, alignment, steps), alignment)
    return photo


def faces_of(photo: Photo, steps: Steps, face: int | None = None) -> list[Alignment]:
    """The faces that `apply_to_photo` edits, the largest first. Raises NoFace if there is none."""
    aligner = steps[0][0].aligner
    found = aligner.find(photo) if face is None else []
    return found or [aligner(photo, face or 0, size_px=64)[0]]  # the aligner raises NoFace


@torch.no_grad()
def lay(photo: Photo, change: Image, flow: warp.Flow | None, alignment: Alignment) -> Photo:
    """The photo with an edit of its aligned face, which fades at the edges of the face's square."""
    photo, before = photo.clone(), photo
    for rows, columns, part in parts(before, change, flow, alignment):
        photo[:, :, rows, columns] = (photo[:, :, rows, columns] + part).clamp(-1, 1)
    return photo


def changes(photo: Photo, steps: Steps, faces: Sequence[Alignment]) -> Iterator[images.Change]:
    """What the filters add to a photo, floats in [-1, 1] or bytes, around each of its faces: for `Picture.changed`."""
    for alignment in faces:
        yield from parts(photo, *_edit(photo, alignment, steps), alignment)


def parts(photo: Photo, change: Image, flow: warp.Flow | None, alignment: Alignment, fade: float = 1.0) -> Iterator[images.Change]:
    """What is added to a photo, a strip after the other, where a face gets a change of colors, then a flow if there is one."""
    if flow is not None:
        yield from warp.moved(photo, alignment, flow, change, fade)
    else:
        for rows, columns, weight, part in laid(change, alignment):
            yield rows, columns, fade * weight * part


def _edit(photo: Photo, alignment: Alignment, steps: Steps) -> tuple[Image, warp.Flow | None]:
    before = crop(photo, alignment, max(one.working_px(alignment.size_px, photo=True) for one, _ in steps))
    change, flow = edit(before, steps)
    return in_tone(before, change), flow


def edit(faces: Image, steps: Steps) -> tuple[Image, warp.Flow | None]:
    """What filters add, one after the other, to aligned faces, [batch, 3, size, size]; and the flow of those that move pixels, or None."""
    after = faces
    for one, strength in steps:
        after = after if one.moves else one(after, strength)
    flows = [one.flow(after, strength) for one, strength in steps if one.moves]
    return after - faces, sum(flows[1:], flows[0]) if flows else None


def in_tone(face: Image, change: Image) -> Image:
    """The change; for a gray or toned face (sepia) the part of it that keeps the tone: no colors come that the photo lacks.

    The tone is each color as a cubic function of the brightness. Where the function tells the colors of the face, it tells those of the
    changed face too. Both [1, 3, size, size].
    """
    gray, lighter = face.mean(1, keepdim=True), change.mean(1, keepdim=True)
    if float(face.amax(1).sub(face.amin(1)).max()) < 1e-4:
        return lighter.expand_as(change)
    low, high = gray.amin(), gray.amax()

    def powers(level: Tensor) -> Tensor:
        return torch.stack([level**power for power in range(4)], dim=-1)

    known, colors = powers(gray.flatten().double()), face[0].flatten(1).T.double()  # [pixel, 4], [pixel, 3]
    tone = torch.linalg.lstsq(known, colors).solution
    left, all_of_it = ((colors - other).square().mean().sqrt() for other in (known @ tone, known[:, 1:2]))
    if float(left) > max(TONED * float(all_of_it), 1 / 127.5):
        return change
    bright = (gray + lighter).clamp(low, high)
    color, new = (powers(level[0, 0].double()) @ tone for level in (gray, bright))
    return (new - color).permute(2, 0, 1)[None].to(change) + (gray + lighter - bright)


def export_onnx(one: Filter, out: str | os.PathLike[str], large: bool = False) -> Path:
    """Write the network of a filter as ONNX: `image` [batch, 3, height, width] in [-1, 1] and `strength` [batch] -> `edited`.

    With `large`, the network for large faces, at twice `size_px`. Sides may be any multiple of 16, or of 32 then. ONNX Runtime, a browser
    or a phone can run it; its metadata say what goes in and what strength means. The file appears whole or not at all. Raises ShapeError
    for a file that does not end in .onnx, or without its folder, and for a filter that has no such network.
    """
    import onnx

    if large and one.large is None:
        raise ShapeError(f"the filter '{one.name}' has one network only, for faces of {one.size_px} px: leave `large` out.")
    out, network, size = Path(out), one.large if large else one.network, (1 + large) * one.size_px
    if out.suffix != ".onnx" or not out.parent.is_dir():
        raise ShapeError(f"--out {out} should be a file that ends in .onnx, in a folder that exists.")
    names = {"input_names": ["image", "strength"], "output_names": ["edited"]}
    free = {0: "batch", 2: "height", 3: "width"}
    axes = {"image": free, "strength": {0: "batch"}, "edited": free}
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of sizes that become constants: multiples of 16 do not need them
        example = (torch.zeros(1, 3, size, size), torch.ones(1))
        torch.onnx.export(network, example, buffer, dynamo=False, dynamic_axes=axes, opset_version=17, **names)
    model = onnx.load_from_string(buffer.getvalue())
    minus, plus = WORDS.get(one.name, ("minus", "plus"))
    about = {
        "name": one.name,
        "image": f"RGB in [-1, 1], [batch, 3, height, width], sides a multiple of {32 if large else 16}",
        "alignment": "the square of FFHQ around eyes and mouth (Karras et al. 2019, appendix A)",
        "size_px": str(size),
        "strength": f"[batch], {one.low:+g} ({minus}) to {one.high:+g} ({plus}), in {one.unit}; 0 changes nothing",
        "blending": "lay edited - image over the photo, fading toward the edges of the square",
        "license": str(one.about.get("licence", "as the weights it was made with")),
    }
    onnx.helper.set_model_props(model, about)
    if one.moves:
        about["image"] = "RGB in [-1, 1], [batch, 3, height, width]"
        about["blending"] = "give the face at its own size: `edited` takes its place"
    with images.draft(out) as part:
        onnx.save(model, part)
    return out


def export_web(one: Filter, folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Write a filter for a page: NAME.onnx is its graph, NAME-large.onnx that of the network for large faces if it has one, and
    NAME.weights the numbers of both, rounded. Returns what the page must know of it.

    The large convolutions take 8 bits a number, with a scale of 16 bits for each kernel; all else takes 16 bits. `parts` lists, weight by
    weight, [how many numbers, how many of them share a scale (0: none, 16 bits)]; the file holds what is in 16 bits first, then the bytes.
    The page widens them and hands them to ONNX Runtime Web as external data: a third of the bytes over the wire, the speed of 32 bits.
    Raises ShapeError for a folder that does not exist.
    """
    import numpy as np
    import onnx
    from onnx.external_data_helper import set_external_data

    if one.moves:
        raise ShapeError(f"the page adds colors, and the filter '{one.name}' moves pixels: it has no place there. Say export_onnx.")
    if not Path(folder).is_dir():
        raise ShapeError(f"there is no folder {folder}. Make it first, or name another one.")
    graphs = [export_onnx(one, Path(folder, f"{one.name}.onnx"))]
    if one.large is not None:
        graphs.append(export_onnx(one, Path(folder, f"{one.name}-large.onnx"), large=True))
    file, parts, half, whole, known, end = graphs[0].with_suffix(".weights"), [], [], [], {}, 0
    for graph in graphs:
        model = onnx.load(graph)
        for tensor in model.graph.initializer:
            weights = onnx.numpy_helper.to_array(tensor)
            if weights.dtype != np.float32 or weights.size < 64:
                continue
            same = weights.tobytes()
            if same not in known:  # the large network has all of the other one's weights
                narrow, scales = quantize(weights)
                parts.append([weights.size, weights.size // scales.size if scales.size else 0])
                (whole if scales.size else half).append(narrow.tobytes())
                half.extend([scales.tobytes()] if scales.size else [])
                known[same], end = end, end + 4 * weights.size
            set_external_data(tensor, location=file.name, offset=known[same], length=4 * weights.size)
            tensor.ClearField("raw_data")
        with images.draft(graph) as part:
            part.write_bytes(model.SerializeToString())
    with images.draft(file) as part:
        part.write_bytes(b"".join(half + whole))
    about = {"name": one.name, "file": graphs[0].name, "weights": file.name, "parts": parts, "unit": one.unit}
    about |= {"large": graphs[1].name} if one.large is not None else {}
    return {**about, "low": one.low, "high": one.high, "size_px": one.size_px}


def quantize(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights as a page gets them: bytes and a scale for each kernel, or 16 bits and no scales. `bytes * scale` gives them back.

    First and last layers stay in 16 bits: they are small, and what they lose is seen.
    """
    import numpy as np

    if weights.ndim != 4 or weights.size < LARGE:
        return weights.astype("<f2"), np.empty(0, "<f2")
    scales = np.maximum(np.abs(weights).max(axis=(2, 3), keepdims=True) / 127, 1e-6).astype("<f2")
    return np.round(weights / scales.astype(np.float32)).clip(-127, 127).astype(np.int8), scales
