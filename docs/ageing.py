"""Draws `docs/ageing.jpg`: seeds 0 to 9, not chosen by hand: younger, as they are, older by the formula, and older by gradient.

Run it from the root of the checkout.
"""

import torch

import dvlatent
from dvlatent import images

faces = dvlatent.load("faces")
formula, gradient = 1.65 * dvlatent.load("age-direction"), dvlatent.load("age-edit")  # MODELS.md: what they do to 500 unseen adults
w = dvlatent.truncate(faces.mapping(dvlatent.normal(range(10), faces.z_dim)), toward=faces.w_mean, psi=0.7)
people = dvlatent.broadcast(w, faces.num_layers).split(1)
with torch.no_grad():
    rows = [images.resize(faces.synthesis(edit(one)), 200) for edit in (-formula, 0 * formula, formula, gradient) for one in people]
images.write(images.grid(torch.cat(rows), columns=10), "docs/ageing.jpg")
