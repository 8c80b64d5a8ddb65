"""Draws `docs/ageing.jpg`: seeds 0 to 9, not chosen by hand, younger, as they are, and older. Run it from the root of the checkout."""

import torch

import dvlatent
from dvlatent import images

STEPS = 1.65  # of the age direction; see MODELS.md for what that does to 500 unseen adults

faces, age = dvlatent.load("faces"), dvlatent.load("age-direction")
w = dvlatent.truncate(faces.mapping(dvlatent.normal(range(10), faces.z_dim)), toward=faces.w_mean, psi=0.7)
people = dvlatent.broadcast(w, faces.num_layers).split(1)
with torch.no_grad():
    rows = [images.resize(faces.synthesis(age.move(one, steps)), 200) for steps in (-STEPS, 0, STEPS) for one in people]
images.write(images.grid(torch.cat(rows), columns=10), "docs/ageing.jpg")
