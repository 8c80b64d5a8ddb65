"""Train the head that finds skin and hair: `python recipes/face_parts.py --out face-parts.safetensors` (5 minutes of two cores).

The generator's 64-pixel features of some faces are clustered. Somebody looked at the clusters of twenty-four faces once and named them;
`SKIN` and `HAIR` are their numbers. The head then learns the named parts of other faces from their pictures.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from common import LICENSE, command, half, natural, parser, run
from torch import Tensor
from tqdm import tqdm

from dvlatent import checkpoint
from dvlatent.faces.parts import GRID, NAMES, PartsHead
from dvlatent.latents import broadcast, w_of
from dvlatent.types import Generator
from dvlatent.zoo import load

CLUSTERS, COMPONENTS, NAMED_FACES = 14, 40, 80
SKIN, HAIR = (2, 6, 7, 8, 10, 11, 12, 13), (0, 1, 9)  # of the clusters of seeds 900,000 on; the rest are background, clothes and edges
FIRST_NAMED, FIRST = 900_000, 901_000
BLOCKS = 4  # of the generator: up to 64 pixels
HOLDOUT = 24  # faces that the head is measured on


class Clusters:
    """Which part every position of a face belongs to, by the generator's features."""

    def __init__(self, generator: Generator) -> None:
        from sklearn.cluster import MiniBatchKMeans
        from sklearn.decomposition import PCA

        self.generator = generator
        features = np.concatenate([self.features(seed, 0.8) for seed in tqdm(range(FIRST_NAMED, FIRST_NAMED + NAMED_FACES), unit="face")])
        chosen = np.random.RandomState(0).choice(len(features), 60_000, replace=False)
        self.pca = PCA(COMPONENTS, random_state=0).fit(features[chosen])
        self.scale = self.pca.transform(features)[:, 0].std()
        found = self.pca.transform(features[chosen]) / self.scale
        self.kmeans = MiniBatchKMeans(CLUSTERS, random_state=0, n_init=3, batch_size=4096).fit(found)

    @torch.no_grad()
    def features(self, seed: int, psi: float) -> np.ndarray:
        """[4096, 512]."""
        ws = broadcast(w_of(self.generator, [seed], psi), self.generator.num_layers)
        return self.generator.features(ws, BLOCKS)[0].flatten(1).T.half().float().numpy()

    def __call__(self, seed: int, psi: float) -> Tensor:
        """The number of the part at each position: [64, 64]."""
        clusters = self.kmeans.predict(self.pca.transform(self.features(seed, psi)) / self.scale)
        return torch.from_numpy(np.isin(clusters, SKIN) + 2 * np.isin(clusters, HAIR)).view(GRID, GRID)


def make(out: Path, faces: int = 260, steps: int = 700) -> None:
    """Cluster, learn, measure on faces held back, write."""
    generator, network = load("faces"), load("perceptual").network
    clusters, torch_rng = Clusters(generator), torch.manual_seed(0)
    head, inputs, parts = PartsHead(), [], []
    for index in tqdm(range(faces), unit="face"):
        picture, part = natural(generator, generator.preview, FIRST + index, 0.9), clusters(FIRST + index, 0.9)
        mirror = (lambda x: x.flip(-1)) if index % 2 else (lambda x: x)
        with torch.no_grad():
            inputs.append(head.inputs(network(mirror(picture)), mirror(picture)).half())
        parts.append(mirror(part))
    x, y, learn = torch.cat(inputs), torch.stack(parts), max(faces - HOLDOUT, 1)
    adam = torch.optim.Adam(head.parameters())
    for step in tqdm(range(steps), unit="step"):
        adam.param_groups[0]["lr"] = 3e-3 * min(1.0, (steps - step) / 300)
        chosen = torch.randint(learn, (8,), generator=torch_rng)
        loss = F.cross_entropy(head(x[chosen].float()), y[chosen])
        adam.zero_grad()
        loss.backward()
        adam.step()
    scores = {"faces": len(x[-HOLDOUT:]), **overlap(head, x[-HOLDOUT:].float(), y[-HOLDOUT:])}
    made_by = command("face_parts", out, faces=faces, steps=steps)
    about = {"kind": "face parts", **head.sizes, "names": NAMES, "scores": scores, "command": made_by, "licence": LICENSE}
    checkpoint.save(out, half(head), about)


@torch.no_grad()
def overlap(head: PartsHead, x: Tensor, y: Tensor) -> dict[str, float]:
    """Intersection over union of each part."""
    guess = head(x).argmax(dim=1)
    pairs = {name: ((guess == part) & (y == part), (guess == part) | (y == part)) for part, name in enumerate(NAMES)}
    return {name: round(float(both.sum() / either.sum().clamp_min(1)), 3) for name, (both, either) in pairs.items()}


if __name__ == "__main__":
    sys.exit(run(make, parser(__doc__, faces=260, steps=700)))
