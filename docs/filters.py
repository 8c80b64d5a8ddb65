"""Draws `docs/age-filter.jpg` and the like for every filter that we ship. Run it from the root of the checkout.

Forty unseen faces, seeds 500,000 to 500,039, not chosen by hand, ten in a row; of each the lowest strength, the face, the highest.
`docs/astronaut.jpg` is a photo that no generator made: younger, as it is, older.
"""

import torch
from skimage.data import astronaut

import dvlatent
from dvlatent import images
from dvlatent.zoo import available

faces = dvlatent.load("faces")
w = dvlatent.truncate(faces.mapping(dvlatent.normal(range(500_000, 500_040), faces.z_dim)), toward=faces.w_mean, psi=0.7)
with torch.no_grad():
    people = torch.cat([faces.preview(one) for one in dvlatent.broadcast(w, faces.num_layers).split(1)]).clamp(-1, 1)
for name in (name for name in available() if name.endswith("-filter")):
    one = dvlatent.load(name)
    rows = [row for some in people.split(10) for row in (one(some, one.low), some, one(some, one.high))]
    images.write(images.grid(images.resize(torch.cat(rows), 128), columns=10), f"docs/{name}.jpg")

photo, older = images.from_uint8(astronaut()), dvlatent.load("age-filter")  # Eileen Collins, NASA, public domain
three = torch.cat([older.apply_to_photo(photo, -1.5), photo, older.apply_to_photo(photo, 2)])
images.write(images.grid(three[..., :360, 60:420], columns=3), "docs/astronaut.jpg")
