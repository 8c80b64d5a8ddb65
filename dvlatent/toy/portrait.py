"""The toy face itself: traits in, portrait out, painted from the wall behind to the glasses in front.

Features of the skin are drawn in *skin coordinates*: `Head.across` finds the place of each pixel on a sphere, so that turning the
head slides, narrows and hides features as a real turn does.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dvlatent.toy.drawing import (
    CLOTH,
    CREAM,
    GRAY,
    HAIR,
    INK,
    IRIS,
    SKIN,
    WALL,
    Canvas,
    Map,
    between,
    blend,
    box,
    bump,
    ellipse,
    overlap,
    ramp,
    segment,
    tint,
    union,
)
from dvlatent.types import Image

EYE_X, EYE_Y = 0.165, 0.005  # the center of an eye, from the center of the face


class Head:
    """Coordinates that turn with the head, sizes and colors, for several strokes of the brush."""

    def __init__(self, traits: dict[str, Tensor], canvas: Canvas) -> None:
        self.trait = {name: value.reshape(-1, 1, 1) for name, value in traits.items()}  # [batch, 1, 1] each
        years = self.trait["age"]
        self.wrinkle = torch.sigmoid((years - 52) / 7)
        self.young = torch.sigmoid((27 - years) / 4.5)
        self.smile = between(self.trait["smile"], -0.60, 1.05)  # below 0 the corners hang
        self.happy = torch.sigmoid((self.smile - 0.25) * 6)  # the teeth show
        self.width = between(self.trait["width"], 0.345, 0.435)
        self.chin = between(self.trait["chin"], 0.43, 0.57) - 0.025 * self.young

        self.yaw, tilt = torch.deg2rad(self.trait["pose"]), torch.deg2rad(self.trait["tilt"])
        self.turn = torch.sin(self.yaw)
        x, y = canvas.x, canvas.y - 0.50  # the head tips about the base of the neck
        self.x = tilt.cos() * x + tilt.sin() * y
        self.y = tilt.cos() * y - tilt.sin() * x + 0.55
        position = self.x / (1.03 * self.width)  # -1 to 1 from one side of the sphere to the other
        depth = 1 - position * position
        depth = ((depth + (depth * depth + 0.01).sqrt()) / 2).sqrt()  # how far the sphere stands out, softened at its rim
        self.across = 1.03 * self.width * (position * self.yaw.cos() - depth * self.turn)  # along the skin; 0 is the center of the face
        self.side = self.across.abs()  # both halves of the face at once
        self.right = torch.where(self.across > 0, 1.0, -1.0).to(self.across)

        below = self.y.clamp_min(0)
        x = self.x - 0.11 * self.turn * torch.sigmoid(self.y * 9 - 1)  # the jaw swings further than the skull
        taper = (1 - 0.24 * (below / self.chin).square() * (1 - 0.4 * self.young)).clamp_min(0.4)
        skull, jaw = ellipse(x, self.y.clamp_max(0), self.width, 0.46), ellipse(x / taper, below, self.width, self.chin)
        self.outline = torch.where(self.y > 0, jaw, skull)
        self.face = canvas.cover(self.outline)

        self.skin = ramp(self.trait["skin tone"], SKIN)
        self.shade, self.deep = tint(self.skin, 0.83, 0.70, 0.66), tint(self.skin, 0.58, 0.42, 0.40)
        hair, gray = ramp(self.trait["hair color"], HAIR), torch.sigmoid((years - 58) / 5.5)
        self.hair, self.brow = blend(hair, GRAY, 0.93 * gray), blend(tint(hair, 0.80, 0.78, 0.76), GRAY, 0.7 * gray)
        self.hair_end = between(self.trait["hair length"], -0.25, 0.90)  # how far down it hangs
        self.hair_outline = self._hair_outline()

    def _hair_outline(self) -> Map:
        """Distance to the hair as seen against the wall."""
        long, curl = self.trait["hair length"], self.trait["curl"].square()
        fullness = between(self.trait["hair volume"], 0.03, 0.125) * between(long, 0.55, 1.2).clamp_max(1)
        x, y = self.x + 0.03 * self.turn, self.y + 0.05
        width, half = self.width + fullness, ((self.hair_end + 0.15) / 2).clamp_min(0.02)
        crown = ellipse(x, torch.where(y < 0, y, y * 1.9), width, 0.43 + fullness)
        hanging = box(x / (1 + 0.10 * y.clamp_min(0)), y - (self.hair_end - 0.10) / 2, width * 0.985, half, half.clamp_max(0.13))
        return union(crown, hanging, 0.08) - 0.028 * curl * (torch.sin(29 * x) * torch.sin(27 * y + 1) + 0.7)


def portrait(traits: dict[str, Tensor], resolution: int) -> Image:
    """Paint one portrait for every row of traits: [batch] each -> [batch, 3, resolution, resolution] in [-1, 1]."""
    canvas = Canvas(traits["age"], resolution)
    head = Head(traits, canvas)
    for paint in (_wall, _body, _face, _cheeks, _wrinkles, _nose, _mouth, _eyes, _temples, _hair, _brows, _glasses):
        paint(head, canvas)
    return canvas.rgb * 2 - 1


def _wall(head: Head, canvas: Canvas) -> None:
    wall = ramp(head.trait["background"], WALL)
    disc = (canvas.x.square() + (canvas.y + 0.02).square()).sqrt() - 0.68
    canvas.paint(wall, torch.ones_like(disc))
    canvas.paint(blend(wall, CREAM, 0.45), canvas.cover(disc))


def _body(head: Head, canvas: Canvas) -> None:
    canvas.paint(tint(head.hair, 0.72, 0.70, 0.72), canvas.cover(head.hair_outline))  # the hair behind the neck
    cloth, body = ramp(head.trait["clothes"], CLOTH), canvas.cover(ellipse(canvas.x, canvas.y - 1.32, 0.86, 0.70))
    canvas.paint(cloth, body)
    canvas.paint(tint(cloth, 0.86, 0.84, 0.86), body * torch.sigmoid((canvas.x - 0.45) * 14) * 0.8)
    collar = ellipse(canvas.x, canvas.y - 0.62, 0.235, 0.20)
    canvas.paint(blend(cloth, CREAM, 0.22), canvas.stroke(collar, 0.035))
    canvas.paint(head.skin, canvas.cover(collar))
    neck = canvas.cover(overlap(union(box(canvas.x, canvas.y - 0.45, 0.155, 0.28, 0.05), collar, 0.06), canvas.y - 0.82, 0.05))
    canvas.paint(head.skin, neck)
    canvas.paint(head.shade, neck * canvas.cover(head.outline - 0.075, 0.03) * 0.9)  # the chin's shadow


def _face(head: Head, canvas: Canvas) -> None:
    _ears(head, canvas, seen=None)
    canvas.paint(head.skin, head.face)
    dim = torch.sigmoid((head.x - 0.62 * head.width + 0.10 * head.y - 0.05 * head.turn) * 16)
    canvas.paint(head.shade, head.face * dim * 0.38)
    _ears(head, canvas, seen=40.0)


def _ears(head: Head, canvas: Canvas, seen: float | None) -> None:
    """Both ears: first behind the head, then again in front where the turned head shows them."""
    for sign in (-1, 1):
        angle = sign * 1.62 + head.yaw
        x, y = head.x - 1.03 * head.width * torch.sin(angle), head.y - 0.03
        amount = 1.0 if seen is None else torch.sigmoid(angle.cos() * seen)
        canvas.paint(head.skin, canvas.cover(ellipse(x - sign * (0.015 - 0.05 * y), y, 0.058, 0.092)) * amount)
        canvas.paint(head.shade, canvas.cover(ellipse(x - sign * 0.018, y + 0.008, 0.030, 0.055)) * 0.8 * amount)


def _cheeks(head: Head, canvas: Canvas) -> None:
    spot = bump(head.side - 0.235, 0.085) * bump(head.y - 0.185 + 0.025 * head.trait["smile"], 0.065)
    canvas.paint(blend(head.skin, (0.90, 0.36, 0.34), 0.42), spot * head.face * between(head.trait["blush"], 0.05, 0.98))


def _wrinkles(head: Head, canvas: Canvas) -> None:
    amount = head.wrinkle * head.face * 0.62
    waves = 0.018 * torch.cos(head.across * 14)
    for row, y in enumerate((-0.205, -0.250, -0.292)):  # forehead
        fade = torch.sigmoid((0.17 - 0.015 * row - head.side) * 60)
        canvas.paint(head.deep, canvas.stroke(head.y - y - waves, 0.0055) * fade * amount)
    for end in (-0.035, 0.004, 0.043):  # crow's feet
        canvas.paint(head.deep, canvas.stroke(segment(head.side, head.y, (0.285, end * 0.4), (0.335, end)), 0.005) * amount)
    away = head.side - EYE_X
    bag = canvas.stroke(head.y - 0.088 + 0.035 * (away / 0.08).square(), 0.006)
    canvas.paint(head.deep, bag * torch.sigmoid((0.075 - away.abs()) * 70) * amount * 0.9)
    down = (head.y - 0.155) / 0.15  # 0 to 1 from the wing of the nose to the corner of the mouth
    fold = canvas.stroke((head.side - 0.068 - 0.082 * torch.sin(1.45 * down.clamp(-0.2, 1.2))) * 0.85, 0.006)
    canvas.paint(head.deep, fold * torch.sigmoid(down * 14 - 1) * torch.sigmoid((1 - down) * 12) * amount)


def _nose(head: Head, canvas: Canvas) -> None:
    size = between(head.trait["nose"], 0.68, 1.5) * (1 - 0.16 * head.young)
    x = head.across - 0.055 * head.turn * size  # it stands out, so it moves further than the face
    y = head.y - 0.145 - 0.012 * size
    canvas.paint(head.shade, canvas.cover(box(x - 0.020 * size, head.y - 0.06, 0.020 * size, 0.11, 0.018), 0.03) * 0.42)
    canvas.paint(head.shade, canvas.cover(ellipse(x, y, 0.056 * size, 0.040 * size), 0.02) * 0.55)
    canvas.paint(blend(head.skin, CREAM, 0.35), canvas.cover(ellipse(x + 0.010, y + 0.012, 0.022 * size, 0.016 * size), 0.02) * 0.8)
    nostril = ellipse(x.abs() - 0.026 * size, y - 0.026 * size, 0.014 * size, 0.008 * size)
    canvas.paint(head.deep, canvas.cover(nostril, 0.012) * 0.9)


def _mouth(head: Head, canvas: Canvas) -> None:
    smile, happy, full = head.smile, head.happy, between(head.trait["lips"], 0.5, 1.6)
    half = 0.115 + 0.030 * smile
    x, y = head.across - 0.02 * head.turn, head.y - 0.292
    u = x / half
    arch = (1 - u * u).clamp(-1, 1)
    steep = (1 + (0.11 * smile * u / half).square()).sqrt()  # turns heights into distances where the mouth slopes
    seam = 0.055 * smile * arch - 0.022 * smile  # between the lips
    gap = 0.052 * happy * arch.clamp_min(0)
    above = seam - (0.026 * arch - 0.008 * bump(x, 0.022)) * full - y
    below = y - seam - gap - 0.036 * full * arch
    lips = overlap(torch.maximum(above, below) / steep, x.abs() - half, 0.01)
    rose = blend(tint(head.skin, 0.85, 0.60, 0.58), (0.80, 0.22, 0.27), between(head.trait["blush"], 0.0, 0.6))
    canvas.paint(rose, canvas.cover(lips))
    canvas.paint(tint(rose, 0.86, 0.80, 0.80), canvas.cover(torch.maximum(lips, y - seam)) * 0.8)
    inner = torch.maximum(lips, torch.maximum(seam - y + 0.002, y - seam - gap) / steep)
    canvas.paint((0.36, 0.10, 0.12), canvas.cover(inner) * happy)
    canvas.paint(CREAM, canvas.cover(torch.maximum(inner, y - seam - 0.62 * gap)) * happy)  # teeth
    closed = canvas.stroke((y - seam) / steep, 0.0065) * torch.sigmoid((half + 0.004 - x.abs()) * 150)
    canvas.paint(head.deep, closed * (1 - 0.75 * happy))
    dimple = segment(x.abs(), y, (half + 0.010, -0.034 * smile), (half + 0.014, -0.012))
    canvas.paint(head.deep, canvas.stroke(dimple, 0.005) * happy * 0.4)


def _eyes(head: Head, canvas: Canvas) -> None:
    size = between(head.trait["eye size"], 0.74, 1.24) * (1 + 0.14 * head.young)
    half = 0.078 * size
    x, y = head.side - EYE_X, head.y - EYE_Y
    u = x / half
    arch = 1 - u * u
    upper = y + 0.056 * size * arch + 0.012 * u
    lower = y - (0.042 - 0.014 * head.smile.clamp_min(0)) * size * arch + 0.012 * u
    eye = canvas.cover(torch.maximum(-upper, lower) * 0.8)
    canvas.paint(head.shade, canvas.cover(ellipse(x, y + 0.01, half * 1.25, 0.075 * size), 0.04) * 0.40)
    canvas.paint((0.985, 0.975, 0.965), eye)
    gaze, y = x + head.right * 0.022 * head.turn, y + 0.004  # the gaze stays with you while the head turns
    disc, iris = (gaze.square() + y.square() + 1e-8).sqrt(), ramp(head.trait["eye color"], IRIS)
    canvas.paint(tint(iris, 0.55, 0.55, 0.55), canvas.cover(disc - 0.046 * size) * eye)
    canvas.paint(iris, canvas.cover(disc - 0.038 * size) * eye)
    canvas.paint(blend(iris, CREAM, 0.35), canvas.cover(ellipse(gaze, y - 0.016 * size, 0.026 * size, 0.016 * size), 0.02) * eye * 0.8)
    canvas.paint((0.05, 0.04, 0.05), canvas.cover(disc - 0.021 * size) * eye)
    glint = ((gaze + head.right * 0.014 * size).square() + (y + 0.015 * size).square() + 1e-8).sqrt()
    canvas.paint((1.0, 1.0, 1.0), canvas.cover(glint - 0.0115 * size) * eye)
    canvas.paint(INK, eye * canvas.cover(upper - 0.012, 0.02) * 0.30)  # the lid's shadow on the eye
    within = torch.sigmoid((half * 1.06 - x.abs()) * 160)
    canvas.paint(INK, canvas.stroke(upper * 0.85, 0.0085 + 0.0035 * u.clamp(0, 1)) * within * 0.95)  # lashes
    canvas.paint(head.deep, canvas.stroke(lower * 0.85, 0.004) * within * 0.55)
    crease = canvas.stroke((upper + 0.026 * size) * 0.85, 0.0045) * torch.sigmoid((half * 0.9 - x.abs()) * 90)
    canvas.paint(head.deep, crease * 0.6)


def _hair(head: Head, canvas: Canvas) -> None:
    part = between(head.trait["parting"], -0.19, 0.19)
    away = head.across - part  # the hair parts here and sweeps to both sides
    reach = torch.where(away > 0, 0.93 * head.width - part, 0.93 * head.width + part)
    front = (head.y + 0.335 - 0.25 * (away / reach).square()) * 0.7
    curtain = overlap(0.90 * head.width - head.side, -0.2 - head.y, 0.02)  # beside the face
    hair = overlap(head.hair_outline, union(front, curtain, 0.10), 0.02)
    hair = overlap(hair, head.y - head.hair_end.clamp_min(0), 0.05)
    paint = canvas.cover(hair)
    canvas.paint(head.deep, canvas.cover(hair - 0.018, 0.03) * head.face * (1 - paint) * 0.35)  # its shadow on the skin
    canvas.paint(head.hair, paint)
    strands = torch.sin(away.abs() * 50 + 8 * head.y + 2.2 * head.trait["curl"] * torch.sin(26 * head.y))
    canvas.paint(tint(head.hair, 0.78, 0.76, 0.78), paint * (strands + 1) * 0.15)
    shine = bump((head.x + 0.10).square() * 1.4 + head.y + 0.435, 0.035) * torch.sigmoid((0.30 - (head.x + 0.08).abs()) * 18)
    canvas.paint(blend(head.hair, CREAM, 0.55), paint * shine * 0.5)


def _brows(head: Head, canvas: Canvas) -> None:
    x = head.side - EYE_X
    u = x / 0.10
    thick = between(head.trait["brows"], 0.006, 0.030) * (1 - 0.225 * (u + 1).clamp(0, 2))
    line = (head.y + 0.115 + 0.026 * (1 - u * u) - 0.012 * u + 0.012 * head.smile) * 0.95
    canvas.paint(head.brow, canvas.stroke(line, thick) * torch.sigmoid((0.095 - x.abs()) * 160) * head.face * 0.95)


def _frame_color(head: Head) -> Tensor:
    dark = torch.sigmoid((head.trait["skin tone"] - 0.70) * 30)  # gold on dark skin, so that glasses show on everybody
    return blend(head.skin.new_tensor((0.17, 0.13, 0.16)).view(1, 3, 1, 1), (0.95, 0.76, 0.42), dark)


def _temples(head: Head, canvas: Canvas) -> None:
    line = segment(head.side, head.y, (0.28, -0.005), (0.60, -0.035))
    canvas.paint(_frame_color(head), canvas.stroke(line, 0.012 * head.trait["glasses"]) * head.face)


def _glasses(head: Head, canvas: Canvas) -> None:
    worn = head.trait["glasses"]
    half = 0.0135 * worn  # they grow out of nothing as thicker and thicker wire
    x, y = head.side - 0.168, head.y - 0.022
    lens = box(x, y, 0.118, 0.102, 0.078)
    glass = canvas.cover(lens) * worn
    canvas.paint((0.80, 0.93, 1.0), glass * 0.13)
    canvas.paint((1.0, 1.0, 1.0), glass * canvas.stroke(x * head.right + 0.6 * y + 0.035, 0.016, 0.01) * 0.30)
    bridge = canvas.stroke(head.y + 0.022 - 2 * head.side.square(), half) * torch.sigmoid((0.052 - head.side) * 200)
    canvas.paint(_frame_color(head), torch.maximum(canvas.stroke(lens, half), bridge))
