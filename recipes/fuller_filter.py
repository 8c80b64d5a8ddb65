"""Train the fuller filter as we ship it: `python recipes/fuller_filter.py --out fuller-filter.safetensors` (a quarter of an hour).

The teacher is `fuller-direction`. Its pictures are read only by the landmarks: where the outline of a jaw goes, over the eyes, its pixels
shall go. What the teacher changes besides, such as hair, light, or how open a mouth is, is never learned.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from common import LICENSE, command, half, parser, run
from torch import Tensor
from tqdm import tqdm

from dvlatent import checkpoint, images, latents
from dvlatent.distillation.augment import PhotoWarp
from dvlatent.distillation.warp import NODES, SEEN_PX, WarpNetwork
from dvlatent.faces.landmarks import MIRRORED
from dvlatent.training import cooldown
from dvlatent.zoo import load

FIRST_SEED, PSI, STEPS = 4_000_000, 0.9, 2.0
BATCH, LR, COOLDOWN = 16, 1e-3, 0.5
SMOOTH, STILL, FAR = 30.0, 3.0, 0.2  # weights of the losses beside the landmarks'
JAW, EYES = slice(17), [36, 39, 42, 45]  # of the 68 points
Faces = tuple[Tensor, Tensor, Tensor]  # uint8 [face, 3, 128, 128]; points [face, 68, 2] from -1 to 1; fraction of background [face, 32, 32]


@torch.no_grad()
def draw(faces: int) -> Faces:
    """Each face at -2, 0 and +2 steps, one after the other: previews."""
    generator, landmarks, parts, fuller = (load(name) for name in ("faces", "landmarks", "face-parts", "fuller-direction"))
    found: list[Faces] = []
    for seed in tqdm(range(FIRST_SEED, FIRST_SEED + faces), desc="faces", unit="face"):
        ws = latents.broadcast(latents.w_of(generator, seed, PSI), generator.num_layers)
        three = torch.cat([generator.preview(fuller.move(ws, amount) if amount else ws).clamp(-1, 1) for amount in (-STEPS, 0, STEPS)])
        points = (2 * landmarks.points(three) + 1) / three.shape[-1] - 1
        small = torch.from_numpy(images.to_uint8(images.resize(three, SEEN_PX))).permute(0, 3, 1, 2)
        found.append((small, points, images.resize(parts(three)[:, :1], NODES)[:, 0]))
    return tuple(torch.cat(column) for column in zip(*found, strict=True))


def asked(points: Tensor, others: Tensor) -> Tensor:
    """Where the landmarks shall go, if an edit gave the others: the jaw as it did, over the eyes; the rest stays. All [batch, 68, 2].

    The edit turns heads a little, which a mirrored face would do the other way: the mean of both only widens.
    """
    goal = points.clone()
    shift = onto(others, points) - points
    goal[:, JAW] += ((shift + shift[:, MIRRORED] * torch.tensor([-1.0, 1.0])) / 2)[:, JAW]
    return goal


def onto(points: Tensor, others: Tensor) -> Tensor:
    """Points shifted, turned and scaled so that the eyes lie best on those of others, [batch, 68, 2]; complex numbers make it short."""
    a, b = (torch.view_as_complex(each.contiguous()) for each in (points, others))
    centers = [each[:, EYES].mean(1, keepdim=True) for each in (a, b)]
    from_a, from_b = (each[:, EYES] - center for each, center in zip((a, b), centers, strict=True))
    turn = (from_a.conj() * from_b).sum(1, keepdim=True) / from_a.abs().square().sum(1, keepdim=True)
    return torch.view_as_real(turn * (a - centers[0]) + centers[1])


def losses(flow: Tensor, points: Tensor, goal: Tensor, background: Tensor) -> dict[str, Tensor]:
    """The flow leads from where each landmark goes to where it was; is smooth; and is 0 in the background and far from the face."""
    at = F.grid_sample(flow, goal[:, :, None], mode="bilinear", align_corners=True)[..., 0].transpose(1, 2)  # [batch, 68, 2]
    bends = flow.diff(n=2, dim=2).square().mean() + flow.diff(n=2, dim=3).square().mean()
    along = torch.linspace(-1, 1, NODES)
    nodes = torch.stack(torch.meshgrid(along, along, indexing="xy"), dim=-1).reshape(1, -1, 2)
    outline = F.interpolate(goal[:, JAW].transpose(1, 2), 68, mode="linear", align_corners=True).transpose(1, 2)
    away = torch.cdist(nodes, torch.cat([goal, outline], dim=1)).amin(2).reshape(-1, NODES, NODES)  # of each node from the landmarks
    size = flow.abs().sum(1)
    still = (size * background * ((away - 0.05) / 0.1).clamp(0, 1)).mean()
    far = (size * ((away - 0.2) / 0.2).clamp(0, 1)).mean()
    off = (at - (points - goal)).abs()
    beside = {"smooth": SMOOTH * bends, "still": STILL * still, "far": FAR * far}
    return {"jaw": off[:, JAW].mean(), "rest": off[:, JAW.stop :].mean(), **beside}


def train(faces: Faces, steps: int, seed: int = 0) -> WarpNetwork:
    """The network after so many steps. Every step of the direction is a pair: from the middle outward, and back."""
    pictures, points, background = faces
    torch.manual_seed(seed)
    network, relight = WarpNetwork(), PhotoWarp(cover=0.1)
    optimizer, rng = torch.optim.Adam(network.parameters(), LR), torch.Generator().manual_seed(seed)
    bar = tqdm(range(steps), unit="step")
    for step in bar:
        optimizer.param_groups[0]["lr"] = LR * cooldown(step, steps, COOLDOWN)
        own = 3 * torch.randint(len(pictures) // 3, (BATCH,), generator=rng) + 1
        sign, back = (2 * torch.randint(2, (BATCH,), generator=rng) - 1 for _ in range(2))
        before, after = torch.where(back > 0, own, own + sign), torch.where(back > 0, own + sign, own)
        was, rest = points[before], background[before]
        goal = asked(was, points[after])
        numbers = relight.draw(BATCH, rng)
        numbers[:, 0], numbers[:, 3] = 1.0, 1.0  # neither moved nor mirrored
        seen = relight(images.from_uint8(pictures[before].permute(0, 2, 3, 1).numpy()), numbers)
        if torch.rand((), generator=rng) < 0.5:
            seen, rest = seen.flip(3), rest.flip(2)
            was, goal = (side[:, MIRRORED] * torch.tensor([-1.0, 1.0]) for side in (was, goal))
        found = losses(network.flow(seen, sign * back * network.reach), was, goal, rest)
        optimizer.zero_grad()
        sum(found.values()).backward()
        optimizer.step()
        if step % 50 == 0:
            bar.set_postfix_str(" ".join(f"{name} {float(value):.4f}" for name, value in found.items()))
    return network.eval()


def make(out: Path, faces: int = 600, steps: int = 2000) -> None:
    """Draw, train and write the filter."""
    network = train(draw(faces), steps)
    about = {"kind": "filter", "network": "warp", **network.sizes, "direction": "fuller", "strengths": [-STEPS, STEPS], "size_px": 256}
    about |= {"faces": faces, "steps": steps, "command": command("fuller_filter", out, faces=faces, steps=steps), "licence": LICENSE}
    checkpoint.save(out, half(network), about)


if __name__ == "__main__":
    sys.exit(run(make, parser(__doc__, faces=600, steps=2000)))
