# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 06 · Is your own photo somewhere in there?
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/dvlatent/blob/main/notebooks/06_inversion.ipynb)
#
# **Question:** can a space of people who never lived hold somebody who does, and what does it cost to find her?
#
# **You will:**
# - run a generator backwards by hand, with nothing but a gradient, and see what three ways to compare pictures overlook,
# - write the three-part loss of a real search, and ask a network that had no part in it whether this is still she,
# - measure the bargain between likeness and editability, and bend the generator instead,
# - make an astronaut younger, older and a man, paste her back into her photo, and see where the search fails,
# - do it with your own photo.
#
# **Before this:** [05 · Where is age?](05_finding_directions.ipynb)
#
# **Time:** 60 s of computing on two CPU cores, 50 minutes of yours
#
# **Explains:** the question everybody asks after the ageing of strangers: "and how does *my* face get in there?"

# %% tags=["setup"]
from importlib.util import find_spec

if find_spec("dvlatent") is None:  # on Colab: the library, then the weights; elsewhere this does nothing
    get_ipython().run_line_magic("pip", 'install -q "dvlatent @ git+https://github.com/OWNER/dvlatent"')
    get_ipython().system("dvlatent assets")

# %%
import time

import torch
from skimage.data import astronaut

import dvlatent
from dvlatent import images
from dvlatent.faces.align import crop, paste_back, soft_mask
from dvlatent.inversion.invert import InvertConfig, invert
from dvlatent.inversion.optimizers import AdamConfig
from dvlatent.lessons import plot
from dvlatent.lessons.teach import check
from dvlatent.metrics.inversion import likeness
from dvlatent.toy.faces import ToyFaces
from dvlatent.whitening import Whitening, levels

# %% [markdown]
# ## The photo
#
# Whose face may one use to teach? This one: NASA's portrait of the astronaut Eileen Collins, in the public domain.
#
# The generator knows faces in one place only: eyes here, mouth there, as its training photos ([FFHQ](https://arxiv.org/abs/1812.04948)) were cut. So the first step is
# to find 68 points on the face ([Kazemi and Sullivan 2014](https://doi.org/10.1109/CVPR.2014.241)) and to cut out the square that puts them there, turned upright. That is **alignment**.

# %%
faces, encoder, judge = (dvlatent.load(name) for name in ("faces", "encoder", "judge"))
distance, identity = dvlatent.load("perceptual"), dvlatent.load("identity")
photo = images.from_uint8(astronaut())  # [1, 3, 512, 512]
alignment, face = dvlatent.load("aligner")(photo, size_px=256)  # where the face lies, and the face itself
print(f"photo {list(photo.shape[2:])}, a square with sides of {alignment.size_px:.0f} pixels, cut out as {list(face.shape[2:])}")
fig = plot.strip(torch.cat([images.resize(photo, 256), face]), titles=["the photo", "aligned: the cut a generator knows"])
plot.show(fig, alt="Left the portrait of a smiling astronaut in her orange suit; right the square around her head, its "
          "upper edge at the top of her hair, the black collar below.")

# %% [markdown]
# ## A generator, backwards
#
# Forwards it is easy: a w gives a picture. Backwards there is no formula. So one starts anywhere, measures the error, and walks downhill along its **gradient**, as in
# lesson 01; but this time the weights stay as they are, and what moves is the w. That is **inversion**. We try it where we know the truth, on the toy face, which has 32 numbers:
#
# > **Predict:** from the average face, how many steps until the drawn face is hardly to be told from the true one: 10, 50, 500?

# %%
toy = ToyFaces(resolution=64)
true_w = dvlatent.truncate(toy.mapping(dvlatent.normal(3, toy.z_dim)), toward=toy.w_mean, psi=0.7)
drawing = toy.synthesis(dvlatent.broadcast(true_w, toy.num_layers))  # the "photo"
space = Whitening.of(toy)
config = InvertConfig(steps=50, space="w", initial_pixel_weight=1, mean_weight=0, optimizer=AdamConfig(noise=0))
at = torch.zeros(1, 1, toy.w_dim, requires_grad=True)  # where we are, in standard deviations of the population: the average face
adam, stations = torch.optim.Adam([at], betas=(0.9, 0.99)), []
for step in range(config.steps):
    picture = toy.synthesis(space.ws(at).expand(-1, toy.num_layers, -1))
    error = torch.stack([(a - b).square().mean() for a, b in zip(levels(picture), levels(drawing), strict=True)]).mean()
    adam.zero_grad()
    error.backward()  # how should each of the 32 numbers change?
    adam.param_groups[0]["lr"] = config.optimizer.lr_at(step / config.steps)
    adam.step()
    stations.append(picture.detach())

# %%
by_hand = space.ws(at.detach()).expand(-1, toy.num_layers, -1)
steps = list(invert(toy, drawing, config))  # the library's loop: one value per step
last = steps[-1]
check("the loop by hand is invert(...)", by_hand, last.ws, tol=2e-2)
shown = torch.cat([*stations[::10], last.image])
near = likeness(shown, drawing.expand(len(shown), -1, -1, -1)).psnr_db
titles = [*(f"{name}\n{db:.0f} dB" for name, db in zip(["start", *range(10, 50, 10), 50], near, strict=True)), "the truth"]
print("decibels after 0, 10, ... 50 steps:", *(f"{db:.0f}" for db in near))
fig = plot.strip(torch.cat([shown, drawing]), titles=titles, caption="After 50 steps glasses, pose and collar are right; the hair is still too yellow.")
plot.show(fig, alt="Seven cartoon faces: the average face; at 10 steps a gray-haired head that looks aside; from 20 on a fair one; at "
          "40 with thick glasses; at 50 close to the truth, whose hair is more pink.")

# %% [markdown]
# **Check your guess.** Fifty, and not quite: the hair still has another color. (Decibels, **dB**, count the error between pixels: 20 is a
# tenth of the full range, every 6 more halve it, 30 is hard to see.)
#
# ## A faster way down
#
# Adam ([Kingma and Ba 2015](https://arxiv.org/abs/1412.6980)), the optimiser of lesson 01, creeps: this valley is long and narrow. A step to one side repaints the whole
# face, the same step along it moves an eyebrow. An optimiser that remembers how the gradient *changed* learns the shape of the valley: a **quasi-Newton** method (L-BFGS, [Nocedal 1980](https://doi.org/10.1090/S0025-5718-1980-0572855-7)).
#
# > **Predict:** the same 50 looks at a picture, with such a memory. How many times smaller will the error be: twice, ten times, a thousand?

# %%
quick = list(invert(toy, drawing, InvertConfig(steps=50, space="w", initial_pixel_weight=1, mean_weight=0)))  # quasi-Newton by default
gain = float(torch.log10(last.parts["pixels"] / quick[-1].parts["pixels"]))
print(f"smaller by a factor of about 10 to the {gain:.0f}")

# %%
fig, axes = plot.chart(height=4.2)
for color, (name, search) in zip(plot.COLORS, {"Adam": steps, "quasi-Newton": quick}.items(), strict=False):
    axes.semilogy([float(step.parts["pixels"]) for step in search], color=color, label=name)
axes.set(title="Fifty looks, two ways downhill", xlabel="looks at a picture", ylabel="mean squared error of the pixels")
axes.legend()
plot.show(fig, alt="Two falling curves on a logarithmic axis. Adam's falls from a tenth to a four hundredth in 50 looks; the quasi-Newton "
          "curve is level with it for five looks and then falls by five powers of ten.")

# %% [markdown]
# **Check your guess.** With the same number of looks!
#
# ## What the loss sees
#
# For a photo, everything depends on how one compares. Three ways:
#
# - **pixels**: the mean squared difference of colours, in the picture and in smaller and smaller copies of it,
# - **perceptual**: what a network that learned to name a thousand things answers inside ([Zhang et al. 2018](https://arxiv.org/abs/1801.03924)),
# - **identity**: 128 numbers by which another network tells people apart (dlib's, a [ResNet](https://arxiv.org/abs/1512.03385)); below 0.6, it says "the same person".
#
# > **Predict:** we shift the astronaut by 8 pixels, darken her, blur her; and we take strangers. Which way does not mind the dark? Which minds the shift?

# %%
strangers = faces.mapping(dvlatent.normal([4, 18], faces.z_dim))
with torch.no_grad():
    people = faces.preview(dvlatent.broadcast(dvlatent.truncate(strangers, toward=faces.w_mean, psi=0.7), faces.num_layers)).clamp(-1, 1)
views = {"shifted": face.roll((8, 8), (2, 3)), "darker": 0.6 * face - 0.4, "blurred": images.resize(images.resize(face, 32), 256)}
stranger, another = people.split(1)
views |= {"mirrored": face.flip(3), "a stranger": stranger}
print(f"{'':12}{'pixels':>8}{'perceptual':>12}{'identity':>10}")
with torch.no_grad():
    for name, other in views.items():
        pixels = torch.stack([(a - b).square().mean() for a, b in zip(levels(other), levels(face), strict=True)]).mean()
        person = identity.distance(identity(other), identity(face))
        print(f"{name:12}{pixels:8.2f}{distance(other, face)[0]:12.1f}{person[0]:10.1f}")

# %%
fig = plot.strip(torch.cat([face, *views.values()]), titles=["the astronaut", *views], caption="Five times she, and two strangers. The shift wraps around the edges.")
plot.show(fig, alt="The astronaut as she is; shifted, with a dark strip along the top; darker; blurred beyond all wrinkles; mirrored; "
          "then two generated women with long hair.")

# %% [markdown]
# **Check your guess.** For pixels, a mirror is nearly as bad as being somebody else, while a blur that loses every
# wrinkle is nothing. The perceptual distance hardly notices the dark, but minds a shift and a mirror. Identity overlooks both, and stumbles over the
# blur. Each is blind somewhere. So the search adds up all three.
#
# ## The loss of a real search, by hand
#
# Where to start? At the average face, or at the guess of an **encoder** ([Richardson et al. 2021](https://arxiv.org/abs/2008.00951)): a small network that has seen 20,000 generated
# faces, *whose w we know because we drew them*, and has learned to tell w from the picture.

# %%
with torch.no_grad():
    first = encoder(face)  # [1, 512]
    guess = faces.preview(dvlatent.broadcast(first, faces.num_layers))
    seen, she = distance.features(face), identity(face)  # the photo is looked at only once


def three_parts(picture):
    """How far a picture is from the photo, in three ways: [3]."""
    pairs = zip(levels(picture), levels(face), strict=True)  # the picture, its half, its quarter, ...
    pixels = torch.stack([(a - b).square().mean() for a, b in pairs]).mean()
    return torch.stack([pixels, distance(picture, seen)[0], (identity(picture) - she).square().sum()])


begin = next(invert(faces, face, InvertConfig(space="w"), distance=distance, identity=identity, start=first))
check("the three parts by hand are the search's", three_parts(guess), torch.cat([begin.parts[name] for name in ("pixels", "perceptual", "identity")]))

# %% [markdown]
# The loss is `3 · pixels + 1 · perceptual + 0.3 · identity`, and the loop is the one that found the toy. We run it twice, once without its third part, and ask the identity
# network how far each result is from the photo. In the first case it marks its own homework; in the second it had no part in the search.
#
# > **Predict:** the encoder's guess is about 0.6 from the photo, on the border of "another person". Where do the two searches end?


# %%
def search(weights, steps=12):
    """Adam from the encoder's guess, in W: the w of all layers, [1, 16, 512]."""
    space = Whitening.of(faces)
    at = space.coordinates(dvlatent.broadcast(first, faces.num_layers))[0].clone().requires_grad_()  # [1, 1, 512]
    adam = torch.optim.Adam([at], lr=0.2, betas=(0.9, 0.99))
    for _ in range(steps):
        loss = (torch.tensor(weights) * three_parts(faces.preview(space.ws(at).expand(-1, faces.num_layers, -1)))).sum()
        adam.zero_grad()
        loss.backward()
        adam.step()
    return space.ws(at.detach()).expand(-1, faces.num_layers, -1)


# %% tags=["nbval-ignore-output"]
results = {"encoder": guess, "with identity": faces.preview(search([3, 1, 0.3])), "without": faces.preview(search([3, 1, 0]))}
marks = {name: likeness(picture, face, distance, identity) for name, picture in results.items()}
for name, mark in marks.items():
    print(f"{name:14} {mark.psnr_db[0]:.0f} dB, perceptual {mark.perceptual[0]:.2f}, identity {mark.identity[0]:.2f}")
titles = [*(f"{name}\nidentity {mark.identity[0]:.2f}" for name, mark in marks.items()), "the photo"]
fig = plot.strip(torch.cat([*results.values(), face]), titles=titles, caption="Twelve steps by hand. Pixels and perceptual distance hardly tell the two searches apart; a face network does.")
plot.show(fig, alt="The encoder's guess, a woman with short brown hair; two women with full reddish hair and gray eyes, "
          "so alike that one must look twice; and the photo.")

# %% [markdown]
# **Check your guess.** The pixels are as near either way; the person is not. But does 0.33 mean anything, when the search was paid for it? We asked a
# network that nobody optimised (`python benchmarks/inversion.py person`; cosine of its features, 1 is the same picture). To it, 200
# strangers are like her by 0.40 on average, 0.58 at most. After thirty steps in W she is found at 0.68 with the identity loss and at 0.54 without; after W+ (below) at
# 0.83 and 0.70. An eye that had no part in it agrees that the third part finds *her*.
#
# ## Watching her appear
#
# The library's search adds the memory of the valley and a pull toward the average face. First in **W**, where one w of 512 numbers serves all 16 layers.
# Then each layer gets a w of its own: that is **W+** ([Abdal et al. 2019](https://arxiv.org/abs/1904.03189)), 16 times as many numbers.
#
# > **Predict:** what comes first, and what last: colours, the shape of the hair, the person, texture?

# %%
began, film, history = time.perf_counter(), [guess], []
for config in (InvertConfig(steps=30, space="w"), InvertConfig(steps=24, split_after=0)):
    for step in invert(faces, face, config, distance=distance, identity=identity, start=first if len(film) == 1 else in_w):
        film.append(step.image)
        history.append({name: float(part) for name, part in step.parts.items()})
    in_w = step.ws if config.space == "w" else in_w
found, seconds = step.ws, time.perf_counter() - began
with torch.no_grad():
    portrait = images.resize(faces.synthesis(found).clamp(-1, 1), 256)
now = likeness(portrait, face, distance, identity)
print(f"numbers that were found: {in_w[:, 0].numel()} in W, {found.numel()} in W+")

# %% tags=["nbval-ignore-output"]
print(f"{now.psnr_db[0]:.1f} dB, identity distance {now.identity[0]:.2f}, in {seconds:.0f} s")  # the last digit differs between computers
stations = torch.cat([film[0], film[6], film[16], film[31], portrait, face])
titles = ["the encoder", "step 5", "15", "30: in W", "54: in W+", "the photo"]
fig = plot.strip(stations, titles=titles, caption="The outline of the hair comes first, its color and the brown of the eyes only in W+. Curls, pores and collar never come.")
plot.show(fig, alt="Six faces. The hair grows full within 15 steps but stays reddish and the eyes gray; in W+ hair and eyes have the photo's colors, "
          "with hair as smooth as a helmet and no ring of the suit.")
plot.show_film(torch.cat(film[::2]), alt="A film of the search: a woman with short brown hair gets the astronaut's full hair, then its color.")

# %%
fig, axes = plot.chart(height=4.2)
axes.axvline(31, color="0.6", linestyle="--", label="the layers part")
for color, name in zip(plot.COLORS, ("pixels", "perceptual", "identity"), strict=False):
    axes.plot([parts[name] / history[0][name] for parts in history], color=color, label=name)
axes.set(title="What the search sees", xlabel="step", ylabel="share of the distance at the start", ylim=(0, 1.1))
axes.legend()
plot.show(fig, alt="Three falling curves, each as a share of its start: pixels and identity fall to a tenth or less, the perceptual distance keeps about "
          "half. Where the layers part, one step leaps out of the frame and is taken back.")

# %% [markdown]
# **Check your guess.** The perceptual distance keeps the most: texture comes last, and some of it never. (The peak is a step that went too far and is taken back.)
# She is not in there, really: this is the nearest point that was found.
#
# ## The bargain: likeness against editability
#
# W+ comes nearer to any photo. It also holds points far from all that the generator ever drew, and out there the directions of lesson 05 mean less
# ([Tov et al. 2021](https://arxiv.org/abs/2102.02766)). Walk along the straight line from the answer in W to the one in W+, and beyond: how like is she, and how many years does the same edit give?
#
# > **Predict:** where does the age direction, +2 steps, gain more years: at the end in W, or at the end in W+?

# %%
older = dvlatent.load("age-direction")
stops = [0, 0.25, 0.5, 0.75, 1, 1.25]  # 0: in W; 1: in W+
line = [in_w + t * (found - in_w) for t in stops]
check("the line by hand is lerp", torch.cat(line), dvlatent.lerp(in_w, found, torch.tensor(stops)))

# %% tags=["nbval-ignore-output"]
bargain, pictures = [], []
for t, ws in zip(stops, line, strict=True):
    with torch.no_grad():
        pictures += [images.resize(faces.synthesis(older.move(ws, amount)).clamp(-1, 1), 256) for amount in (0, 2)]
    like = likeness(pictures[-2], face, distance, identity)
    years = float((judge(pictures[-1]) - judge(pictures[-2]))[0, 0])  # read by the judge of lesson 05
    person = float((identity(pictures[-1]) - identity(face)).norm())
    bargain.append((float(like.psnr_db), float(like.identity), years, person))
    print("t = {:4}: {:4.1f} dB, identity {:.2f}; two steps older: {:+3.0f} years, identity {:.2f}".format(t, *bargain[-1]))

# %% tags=["nbval-ignore-output"]
fig, axes = plot.chart(height=4.6)
decibels, _, years, _ = zip(*bargain, strict=True)
print(f"from W to W+: {decibels[4] - decibels[0]:+.0f} dB, and {years[4] - years[0]:+.0f} years of what two steps gain")
axes.plot(decibels[:5], years[:5], "o-", markersize=10, color=plot.COLORS[0])
axes.plot(decibels[4:], years[4:], "o--", markersize=10, color=plot.COLORS[1])
for name, at in (("in W", 0), ("in W+", 4), ("beyond", 5)):
    axes.annotate(name, (decibels[at], years[at]), xytext=(10, 8), textcoords="offset points", size=15)
axes.set(title="The bargain, for one photo", xlabel="likeness: dB to the photo", ylabel="editability: years gained by +2 steps")
axes.margins(0.15)
plot.show(fig, alt="Six points from upper left, in W, to lower right, in W plus: more decibels, fewer years gained. The last one, beyond "
          "W plus, has fewer of both.")

# %%
rows = torch.cat([pictures[2 * at + aged] for aged in (0, 1) for at in (0, 2, 4, 5)])
columns = ["in W", "half way", "in W+", "beyond"]
fig = plot.labeled_grid(rows, rows=["found", "two steps older"], columns=columns, caption="Left: red hair, gray eyes. Right: her colors. The formula bleaches all of them.")
plot.show(fig, alt="Four versions of the astronaut: reddish hair and gray eyes in W, ash hair and brown eyes in W plus and beyond. Below each an "
          "older woman with pale blond hair.")

# %% [markdown]
# **Check your guess**, and mind that this is one photo and one judge.
#
# ## A third way: bend the generator
#
# In W edits mean what they say, but nobody there looks just like her. Now the
# point stays where it is, in W, and a few steps of training move the *generator's own weights* until it draws her right there. That is **pivotal tuning**
# ([Roich et al. 2021](https://arxiv.org/abs/2106.05744)): lesson 01 again, with one photo for a data set. It is done on a copy.
#
# > **Predict:** fifteen steps. Will she come as near as in W+? And will the age direction still age her in the bent generator?

# %%
from dvlatent.inversion.tune import TuneConfig, tune

config = TuneConfig(steps=15, lr=3e-3, preview=True, locality_weight=0)  # quick: through previews
tuning = list(tune(faces, face, in_w, config, distance=distance, identity=identity))
tuned = tuning[-1].tuned
with torch.no_grad():
    check("a copy was bent, and our generator is what it was", faces.preview(in_w), tuning[0].image)
    bent = [images.resize(tuned.synthesis(older.move(in_w, amount)).clamp(-1, 1), 256) for amount in (0, 2)]

# %% tags=["nbval-ignore-output"]
print(f"the photo: judged {judge(face)[0, 0]:.0f}")
for name, (now_her, later) in {"in W": pictures[0:2], "in W+": pictures[8:10], "tuned": bent}.items():
    like, ages = likeness(now_her, face, distance, identity), judge(torch.cat([now_her, later]))[:, 0]
    person = float((identity(later) - identity(face)).norm())
    print(f"{name:6}{like.psnr_db[0]:5.1f} dB, identity {like.identity[0]:.2f}, judged {ages[0]:.0f}; ", end="")
    print(f"two steps older: judged {ages[1]:.0f}, identity {person:.2f}")

# %%
empty, columns = torch.ones_like(face), ["the photo", "in W", "in W+", "in W, tuned"]
grid = torch.cat([face, pictures[0], pictures[8], bent[0], empty, pictures[1], pictures[9], bent[1]])
fig = plot.labeled_grid(grid, rows=["found", "two steps older"], columns=columns, caption="Right: the point of the second column, drawn by a bent generator. Her eyes and the strands of her hair are there.")
plot.show(fig, alt="The photo; the astronaut in W, with redder hair and gray eyes; in W plus, her hair a smooth cap; tuned, with brown eyes, strands of hair "
          "and the lines of her smile. Below the three older women with fair hair.")

# %% [markdown]
# **Check your guess.** Nearer than in W+, with a single w; the direction still works, and the old woman stays more like her. To the network that nobody optimised the tuned
# portrait is like her by 0.94. The price: a generator of eight million numbers for one photo, good for nobody else.
#
# ## Younger, older, a man: and back into the photo
#
# Now the reason for all this. She has a w and a generator of her own, so every direction of lesson 05 applies to her. Older is the edit by gradient, which does not bleach.

# %% tags=["nbval-ignore-output"]
smile, gender, sharper = (dvlatent.load(name) for name in ("smile-direction", "gender-direction", "age-edit"))
edits = {"younger": -1.5 * older, "as found": 0 * older, "older": 1.0 * sharper, "a man": 2 * gender, "no smile": -1.5 * smile}
with torch.no_grad():
    people = torch.cat([tuned.synthesis(edit(in_w)) for edit in edits.values()]).clamp(-1, 1)  # [5, 3, 1024, 1024]
    scores, person = judge(people), identity.distance(identity(people), she)
titles = [f"{name}\njudged {years:.0f}" for name, years in zip(edits, scores[:, 0].tolist(), strict=True)]
print(f"the photo judged {judge(face)[0, 0]:.0f} years, 'male' {judge(face)[0, 1]:.2f}")
for name, (years, male, *_), far in zip(edits, scores.tolist(), person, strict=True):
    print(f"{name:9} judged {years:.0f} years, 'male' {male:.2f}; identity distance to the photo {far:.2f}")
fig = plot.strip(people, titles=titles, caption="The bent generator's pictures. The man is at the border of being the same person, for the identity network.")
plot.show(fig, alt="The astronaut five times: younger, with darker hair and smooth skin; as found; older, with deep folds beside the mouth and grayer "
          "hair; as a man with a short beard and less hair; and with closed lips.")

# %% [markdown]
# Pasted back whole, the aligned square would bring its own wall along. So we paste **the head**: a small
# network says where face, neck and hair are, in the photo *and* in the edited picture; both together, a little wider and softened, are the mask.

# %%
from torch.nn import functional as F

parts = dvlatent.load("face-parts")


def head(picture):
    """Face, neck and hair: [1, 1, 256, 256] from 0 to 1."""
    return parts.subject(images.resize(picture, 256))[:, None]


def mask(edited):
    """What was there must go, what is new must come."""
    both = F.max_pool2d(torch.maximum(head(face), head(edited)), 9, stride=1, padding=4)
    return F.avg_pool2d(both, 9, stride=1, padding=4) * soft_mask(256, edge=0.06)  # nothing at the rim of the square


# %% tags=["nbval-ignore-output"]
chosen = [people[i : i + 1] for i in (0, 2)]
whole = [paste_back(photo, edited, alignment) for edited in chosen]
fine = [paste_back(photo, edited, alignment, mask(edited)) for edited in chosen]
for name, results in {"the whole square": whole, "the head": fine}.items():
    change = 127.5 * (torch.cat([crop(result, alignment, 256) for result in results]) - face).abs().mean(dim=1)  # in bytes
    print(f"{name:16} where the photo shows no head, pixels change by {change[:, head(face)[0, 0] < 0.1].mean():.1f} of 255")
close = torch.cat([photo, whole[0], fine[0], whole[1], fine[1]])[:, :, 30:250, 110:330]  # the part around the head
titles = ["the photo", "younger, square", "younger, head", "older, square", "older, head"]
fig = plot.strip(close, titles=titles, caption="The square leaves a pale halo on the wall and blurs the helmet ring; the head mask leaves both alone.")
plot.show(fig, alt="The astronaut's head in her photo five times. Pasted as a square, a pale patch surrounds the hair and the ring of the suit is blurred; "
          "pasted by the mask, wall and ring are the photo's.")

# %% [markdown]
# Look closely, still: the new skin is smoother than a camera's, and above the square a rim of the old hair remains. (And the judge calls even her photo more male than
# female: it has seen few women with short hair. Scores have habits, too.) The man cannot be pasted
# like this: where her hair was and his is not, the photo has nothing to show.
#
# ## How long did that take?

# %% tags=["nbval-ignore-output"]
print(f"Fifty-four steps for one photo took {seconds:.0f} s on this computer.")
print(f"A minute of video has 1,800 frames: {1800 * seconds / 3600:.1f} hours.")

# %% [markdown]
# A filter on a phone answers at once. It cannot work like this. *What it does instead is lesson 07.*
#
# ## Where the search fails
#
# The training photos showed upright faces, mostly free of hats and hands. So we draw a hat, lay a hand over the mouth, and turn a head on its side,
# all on a generated face.
#
# > **Predict:** what will it make of each of the three?

# %%
ground = torch.stack(torch.meshgrid(torch.arange(256.0), torch.arange(256.0), indexing="ij"))  # rows and columns
y, x = ground
hat = ((y < 78) & ((x - 128).abs() < 78)) | (((y - 80).abs() < 9) & ((x - 128).abs() < 112))
fingers = [((x - 60 - 22 * n).abs() < 9) & (y > 172 - 6 * (n % 3)) for n in range(5)]
hand = torch.stack([*fingers, (y > 215) & (x > 45) & (x < 165)]).any(dim=0)
trouble = {
    "a hat": torch.where(hat, torch.tensor([-0.9, -0.6, 0.1])[:, None, None], another),
    "a hand": torch.where(hand, torch.tensor([0.55, 0.15, -0.05])[:, None, None], another),
    "on its side": another.rot90(1, (2, 3)),
}

# %%
hard = torch.cat(list(trouble.values()))
with torch.no_grad():
    begin = encoder(hard)
*_, step = invert(faces, hard, InvertConfig(steps=7, space="w"), distance=distance, identity=identity, start=begin)
back = step.image.clamp(-1, 1)
print("found again, in dB:", ", ".join(f"{name} {db:.0f}" for name, db in zip(trouble, likeness(back, hard).psnr_db, strict=True)))
fig = plot.labeled_grid(torch.cat([hard, back]), rows=["shown", "found"], columns=list(trouble), caption="Found: a cap with folds, no hand, and somebody else.")
plot.show(fig, alt="A woman with a flat blue hat drawn on, with a flat hand over her mouth, and lying on her side. Below: she in a blue cap with folds; she "
          "without a hand, smiling; and an upright man with short hair.")

# %% [markdown]
# **Check your guess.** Its training photos had a few hats: so the flat drawing becomes something like cloth. They had hardly any hands: so
# it takes the hand away and *invents* a mouth behind it. And of a lying head it makes somebody else: no w at all draws one that lies.
#
# It never says "I do not know this". The answer is plausible, and not always *true*: whose smile was that behind the
# hand? The same holds for scars, and for all people whom the training photos show seldom.
#
# ## Your own photo
#
# Everything here runs on your computer, and nothing is sent anywhere. (On Colab "your computer" is a machine of
# Google's: then your photo does leave yours.) Use your own face, or the face of somebody who said yes to exactly this.

# %%
mine = None  # "me.jpg"
consent = False  # True: this is me, or somebody who agreed
if mine and consent:
    my_photo = images.read(mine)
    my_alignment, my_face = dvlatent.load("aligner")(my_photo, size_px=256)
    *_, step = invert(faces, my_face, InvertConfig(), distance=distance, identity=identity, start=encoder(my_face))
    with torch.no_grad():
        strip = torch.cat([my_face, *(faces.preview(older.move(step.ws, amount)) for amount in (-1.5, 0, 1.5))])
    plot.show(plot.strip(strip, titles=["you", "younger", "found", "older"]), alt="Your photo, and you younger, as found and older.")
else:
    print("no photo, no search: fill in a file's name and your consent")

# %% [markdown]
# The same on the command line, kept as a small file: `dvlatent invert me.jpg --out me.safetensors`, then `dvlatent edit --from me.safetensors --age +2 --paste-back me.jpg --out older.png`.
#
# ## Exercises
#
# Replace `...`, run the cell, read the hint.

# %% [markdown]
# ### Exercise 1: decibels by hand
# The peak signal to noise ratio of `portrait` against `face`: 10 log10 of (the largest possible difference squared, here 2² = 4) / (mean squared difference).

# %% tags=["exercise"]
psnr = ...  # one number
check("exercise 1", psnr, now.psnr_db[0].item(), tol=0.05, hint="pixels lie in [-1, 1], so the largest difference is 2")

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# psnr = float(10 * torch.log10(4 / (portrait - face).square().mean()))
# ```
#
# The library rounds to whole bytes first: that is the last tenth of a decibel.
# </details>

# %% [markdown]
# ### Exercise 2: hold it back afterwards
# `found` has a w for each layer. Write `held(ws, t)` that pulls the layers toward their mean: t = 1 leaves them, 0 gives the same w
# for all.


# %% tags=["exercise"]
def held(ws, t):
    ...  # your line


std = found.std(dim=1).sum()  # of the layers
check("exercise 2", held, lambda f: all(abs(f(found, t).std(dim=1).sum() / std - t) < 1e-3 for t in (0, 0.5, 1)) or "the mean over dim=1, plus t times the rest")

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def held(ws, t):
#     mean = ws.mean(dim=1, keepdim=True)
#     return mean + t * (ws - mean)
# ```
#
# `delta_weight` of `InvertConfig` does the same while searching.
# </details>

# %% [markdown]
# ### Exercise 3: the cut, by hand
# Alignment knows its square from three points (x, y): the middles of both eyes and of the mouth. The horizontal of the square is the line of the eyes, `right − left`, plus
# the line from the eyes' middle down to the mouth, turned: `(x, y)` to `(y, −x)`. Half a side is 2 eye distances, or 1.8 times the way from eyes to
# mouth if that is more. The centre lies a tenth of that way below the eyes. Give the corners: upper left, lower left, lower right, upper right.


# %% tags=["exercise"]
def cut(left, right, mouth):
    """Three points, [2] each -> four corners, [4, 2]."""
    ...  # your lines


import numpy as np  # noqa: F401  (for your lines)

from dvlatent.faces.align import square

points = dvlatent.load("landmarks").points(face)[0].double().numpy()  # 68 of them: eyes 36 to 47, corners of the mouth 48 and 54
places = points[36:42].mean(0), points[42:48].mean(0), (points[48] + points[54]) / 2
check("exercise 3", cut, lambda f: float(abs(f(*places) - square(points)).max()) < 0.01 or "start with the two axes, x along the eyes and y = x turned by 90° downward")

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def cut(left, right, mouth):
#     across, eyes = right - left, (left + right) / 2
#     down = mouth - eyes
#     x = across + np.array([down[1], -down[0]])
#     x = x / np.hypot(*x) * max(2 * np.hypot(*across), 1.8 * np.hypot(*down))
#     y = np.array([-x[1], x[0]])
#     center = eyes + 0.1 * down
#     return np.stack([center - x - y, center - x + y, center + x + y, center + x - y])
# ```
#
# So all 70,000 photos of FFHQ were cut.
# </details>

# %% [markdown]
# ### An open question
# A court is shown a sharp face, "reconstructed" from a blurred picture by a search like this one. What would you tell the court, and which number of this lesson
# would you show?

# %% [markdown]
# ## The answer
#
# **Question:** can a space of people who never lived hold somebody who does, and what does it cost to find her?
#
# **Answer:** nearly. No point of it *is* her; but one is near enough that a network that had no part in the search knows her, and it can be
# made older, younger and a man by the same vectors as any stranger. It costs dozens of walks through the whole generator and back; and a bargain,
# for the nearer the point is to the photo, the less edits mean what they say, unless one bends the generator itself. What
# the generator never learned to draw, it explains away.
#
# ## What next
#
# A search for every frame is no filter. [07](07_distillation.ipynb) has the plot twist: pairs of *generated* faces, before and after, train a
# fast network that needs no search at all.
