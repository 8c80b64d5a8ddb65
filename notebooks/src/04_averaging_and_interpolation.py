# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 04 · What lies between two faces?
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/dvlatent/blob/main/notebooks/04_averaging_and_interpolation.ipynb)
#
# **Question:** if faces are vectors, is the mean of two vectors the blend of two faces, and are there faces all the way between them?
#
# **You will:**
# - average two latents by hand, see whose face comes out, and measure how near it is to its parents,
# - turn a face into another by degrees, and overshoot,
# - average hundreds of people, and predict how fast they become the average face,
# - compare straight lines and arcs, and make a film of a journey that comes back to where it began.
#
# **Before this:** [00 · Start here](00_start_here.ipynb) and, better, [03 · Sampling faces](03_stylegan_sampling.ipynb)
#
# **Time:** 60 s of computing on two CPU cores, 40 minutes of yours
#
# **Explains:** the part of the video in which two vectors are averaged and one face turns into another

# %% tags=["setup"]
from importlib.util import find_spec

if find_spec("dvlatent") is None:  # on Colab: the library, then the weights; elsewhere this does nothing
    get_ipython().run_line_magic("pip", 'install -q "dvlatent @ git+https://github.com/OWNER/dvlatent"')
    get_ipython().system("dvlatent assets")

# %%
import torch

import dvlatent
from dvlatent import images, video
from dvlatent.lessons import plot
from dvlatent.lessons.teach import check

faces = dvlatent.load("faces")
# Chosen by eye among seeds 1 to 80: varied in age, perceived gender and skin tone, none broken.
CAST = [28, 70, 35, 54, 7, 75, 38, 37]

# %% [markdown]
# Three short helpers, used all through. A seed gives the random vector `z`; the mapping network makes a `w` of it, 512 numbers that
# name a face; `truncate` pulls it a little toward the average face `w̄` (`w̄ + 0.7 (w − w̄)`: fewer strange pictures, see lesson 03).


# %%
def latents(seeds):
    """One w per seed: [seeds, 512]."""
    return dvlatent.truncate(faces.mapping(dvlatent.normal(seeds, faces.z_dim)), toward=faces.w_mean, psi=0.7)


def sketch(w):
    """Quick pictures of 256 pixels: [batch, 512] -> [batch, 3, 256, 256]."""
    return faces.preview(dvlatent.broadcast(w, faces.num_layers))


def paint(w):
    """The real ones, of 1024 pixels."""
    return faces.synthesis(dvlatent.broadcast(w, faces.num_layers))


# %%
cast = latents(CAST)  # [8, 512]
titles = [f"seed {seed}" for seed in CAST]
fig = plot.strip(paint(cast), titles=titles, caption="The cast of this lesson. None of these people exists.")
plot.show(fig, alt="Eight portraits in a row, women and men, children and adults, of different skin tones: "
          "the cast of this lesson.")

# %% [markdown]
# ## The mean of two vectors
#
# Take the third and the fourth, and call them `a` and `b`. Add their 512 numbers, divide by two: a vector that belongs to nobody yet.
#
# > **Predict:** what will the picture of the mean be: two faces laid over each other, half a face beside half a face, or a third person?
# > And whose hair will that person have?

# %%
a, b = cast[2:3], cast[3:4]  # [1, 512] each
blend = (a + b) / 2  # by hand
check("the blend by hand is dvlatent.mean", blend, dvlatent.mean(torch.cat([a, b])))

picture_a, picture_blend, picture_b = paint(torch.cat([a, blend, b])).split(1)
fig = plot.strip(
    torch.cat([picture_a, picture_blend, picture_b]), titles=["a", "(a + b) / 2", "b"],
    caption="In the middle: a third person, between both.",
)  # fmt: skip
plot.show(fig, alt="Three faces in a row. The middle one, made from the mean of the two vectors, is a third "
          "person between the outer two.")

# %% [markdown]
# **Check your guess:** a third person, sharp and whole, with something of both. Nobody told the network how to blend two faces. It
# learned to draw any face from 512 numbers, and so it had to put faces that are alike close together. Between two faces there are
# faces, too.
#
# ## What the pixel average gives instead
#
# The same sum, on the pictures: add two photographs pixel by pixel and divide by two. Let us take the first two of the cast for it, who are less
# alike. (All these faces are aligned, eyes upon eyes; that is as kind to the pixel average as one can be.)

# %%
one, two = cast[0:1], cast[1:2]
picture_one, person, picture_two = paint(torch.cat([one, (one + two) / 2, two])).split(1)
ghost = (picture_one + picture_two) / 2
fig = plot.strip(
    torch.cat([picture_one, ghost, person, picture_two]), titles=["seed 28", "mean of pixels", "mean of vectors", "seed 70"],
    caption="The same arithmetic in two places: pixels give a double exposure, vectors give a person.",
)  # fmt: skip
plot.show(fig, alt="Four faces. The mean of pixels shows both faces through each other like a ghost; the mean "
          "of vectors is one clear face.")

# %%
def edges(image):
    """How strong the sharpest edges are: the step between neighbouring pixels that only one in a thousand exceeds."""
    step = (image[..., 1:] - image[..., :-1]).abs().mean(dim=1).flatten()
    return step.sort().values[-len(step) // 1000]


usual = (edges(picture_one) + edges(picture_two)) / 2
print("sharpest edges, where the parents have 1:")
print(f"  mean of pixels   {edges(ghost) / usual:.2f}")
print(f"  mean of vectors  {edges(person) / usual:.2f}")

# %% [markdown]
# In the ghost, an edge of one face falls on smooth skin of the other and is halved: glasses half there, hair half there. (The blend is a
# little softer than its parents, too: it is nearer to the average face, whose skin is smooth.) Pixels are a bad place for arithmetic,
# since between two photographs there are hardly any photographs. W is a good one.
#
# ## Is it really between them? By numbers
#
# "Something of both" is easy to say and easy to imagine. Here is an instrument: the **perceptual distance** asks a network that was trained to
# name things how different two pictures look to it (0: equal). We make eight couples out of sixteen strangers, blend each couple, and
# measure from every blend to all sixteen.
#
# One trap to avoid: a mean lies nearer to the average face, and the average face resembles *everybody* a little. So it proves nothing that
# a blend is nearer to its parents than two strangers are to each other. The fair question is: is the **same** blend nearer to its own two
# parents than to the fourteen others?
#
# > **Predict:** sort the sixteen by their distance from a blend. Which places do its parents take, on average? It would be 1.5 at best, and 8.5 by luck.

# %%
distance = dvlatent.load("perceptual")
people = latents(range(200, 216))
couples = (people[0::2] + people[1::2]) / 2  # [8, 512]: 0 with 1, 2 with 3, ...
pictures, blends = (images.resize(paint(w), 256) for w in (people, couples))
seen = distance.features(pictures)  # look at the sixteen only once
table = torch.stack([distance(one, seen) for one in blends.split(1)])  # [8 blends, 16 people]

own = torch.eye(8).repeat_interleave(2, dim=1).bool()  # whose parents are whose
print(f"mean distance of a blend to its parents {table[own].mean():.2f}, to the others {table[~own].mean():.2f}")
rank = table.argsort(dim=1).argsort(dim=1)[own] + 1  # [16]: 1 for the nearest, 16 for the farthest
print(f"a parent's place among the sixteen: {rank.float().mean():.1f} on average (1.5 at best, 8.5 by luck)")
print(f"the nearest of all is a parent: {(rank == 1).sum()} of 8 blends (1 by luck)")

# %%
fig, axes = plot.chart(height=4.6)
for row in range(8):
    others = axes.plot(table[row][~own[row]], [row] * 14, "o", color="#b9b9b9")
    parents = axes.plot(table[row][own[row]], [row] * 2, "o", color=plot.COLORS[1], markersize=11)
axes.set(title="From each blend to sixteen people", xlabel="perceptual distance", ylabel="blend of")
axes.set_yticks(range(8), [f"{2 * row} + {2 * row + 1}" for row in range(8)])
axes.invert_yaxis()
fig.legend([*parents, *others], ["its own two parents", "the 14 others"], loc="outside lower center", ncols=2)
plot.show(fig, alt="One row of dots per blend. In every row the two coloured dots, the parents, lie to the "
          "left of most of the grey ones.")

# %% [markdown]
# **Check your guess:** the parents lead, but not always: now and then a stranger with the same pose or the same light comes between.
#
# So this is what the instrument can tell, and what it cannot: it sees hair, glasses, light, background and pose as much as the features of a face.
# It says that the blend *looks like* its parents; it does not say that a friend would take it for their child. For that you need
# a network trained to recognise people, which comes with lesson 06.
#
# A second instrument that knows nothing of the first: a network that guesses an age. It is a perceived age, with errors of years.

# %%
attributes = dvlatent.load("attributes")
age, blend_age = attributes(pictures)[:, 0], attributes(blends)[:, 0]  # [16], [8], years
between = (age[0::2] + age[1::2]) / 2  # the parents' mean
others = torch.stack([between.roll(shift) for shift in range(1, 8)])  # the same for all wrong couples
print(f"perceived ages of the people: {age.min():.0f} to {age.max():.0f} years")
print(f"a blend's age differs from its parents' mean by {(blend_age - between).abs().mean():.0f} years on average,")
print(f"from the mean of a wrong couple by {(blend_age - others).abs().mean():.0f}")

# %% [markdown]
# ## Intensities
#
# The mean is one point of a line: `a + t (b − a)` is `a` at 0 %, the blend at 50 % and `b` at 100 %. A filter's strength dial is exactly this
# `t`. Nothing stops you from going further: below 0 % lies what `a` has and `b` has not, exaggerated; above 100 % the reverse.
#
# > **Predict:** how far beyond 100 % can you go before it stops being a face?

# %%
t = torch.tensor([0, 0.25, 0.5, 0.75, 1, -1, -0.5, 1.5, 2, 3])
line = a + t[:, None] * (b - a)  # [10, 512], by hand
check("the line by hand is dvlatent.lerp", line, dvlatent.lerp(a, b, t))

words = [f"{100 * at:.0f} %".replace("-", "−") for at in t]
note = "Above: from a to b. Below: beyond both ends, a caricature of their difference."
fig = plot.faces(paint(line), columns=5, titles=words, caption=note)
plot.show(fig, alt="Two rows of five faces. The upper row turns smoothly from a to b; the lower row "
          "exaggerates what sets them apart.")

# %%
far = (line - faces.w_mean).norm(dim=1) / (latents(range(1000)) - faces.w_mean).norm(dim=1).mean()
print("distance from the average face, where 1 is usual:")
for at in t.argsort():
    print(f"{words[at]:>8} {far[at]:5.1f}")

# %% [markdown]
# **Check your guess:** on the way from `a` to `b` you come nearer to the average face; beyond them you leave the region where the generator
# has ever drawn anything. Lesson 05 needs this number: an edit that is too strong fails for this reason and no other.
#
# ## The mean of many
#
# If two faces have a mean, so have 256. Every average of `n` random vectors lies closer to the average of all, `w̄`. How fast? Each `w` is `w̄`
# plus an error of its own; errors that have nothing to do with each other cancel when they are added, and what is left of `n` of them is
#
# ```text
# distance to w̄ of the mean of n faces  =  distance of one face / √n
# ```
#
# > **Predict:** at how many faces is the distance a quarter of one face's? And at how many one sixteenth?

# %%
crowd = faces.mapping(dvlatent.normal(range(4096), faces.z_dim))  # [4096, 512], as they are: not pulled to the average
counts = [1, 4, 16, 64, 256]
groups = [crowd.view(-1, n, faces.w_dim).mean(dim=1) for n in counts]  # each [4096 / n, 512]: many means of n faces
check("the mean of the first 256 is dvlatent.mean", groups[-1][:1], dvlatent.mean(crowd[:256]))

away = [(group - faces.w_mean).norm(dim=1) for group in groups]  # [4096 / n] distances
one_face = away[0].square().mean().sqrt()
measured = [float(each.square().mean().sqrt() / one_face) for each in away]
print("n faces     predicted 1/√n     measured")
for n, value in zip(counts, measured, strict=True):
    print(f"{n:7d} {n**-0.5:18.3f} {value:12.3f}")

# %%
fig, axes = plot.chart(height=4.4)
for n, each in zip(counts, away, strict=True):
    dots = axes.plot([n] * 16, each[:16] / one_face, "o", color=plot.COLORS[4], alpha=0.6)
rule = axes.plot(counts, [n**-0.5 for n in counts], color=plot.COLORS[1], zorder=1)
axes.set(xscale="log", yscale="log", title="Averages of many faces close in on one face")
axes.set_xticks(counts, counts)
axes.set_yticks([1, 1 / 4, 1 / 16], ["1", "1/4", "1/16"])
axes.minorticks_off()
axes.set(xlabel="faces in the mean, n", ylabel="distance to the average face")
axes.legend([*dots, *rule], ["sixteen means of n faces", "predicted: 1/√n"])
plot.show(fig, alt="On logarithmic axes, the distance to the average face falls along a straight line from 1 "
          "at one face to 1/16 at 256 faces.")

# %%
start = CAST[0]  # the crowd's seeds are 0 to 4095: begin with a face that we know
means = torch.cat([crowd[start : start + n].mean(dim=0, keepdim=True) for n in counts] + [faces.w_mean[None]])
fig = plot.strip(
    paint(means), titles=["1 face", *(f"mean of {n}" for n in counts[1:]), "w̄"],
    caption="The last one, w̄, is the mean of 100,000 faces: nobody at all, and already nearly there at 64.",
)  # fmt: skip
plot.show(fig, alt="Six faces in a row, from one person through means of 4, 16, 64 and 256 to the average "
          "face; the last three look alike.")

# %% [markdown]
# Look at who the average is: smooth skin, a slight smile, no strong feature, and about the age, gender and origin of whoever was photographed most.
# It is a portrait of a data set, not of mankind: FFHQ, photos that people put on the web.
#
# ## Straight lines and arcs
#
# We blended in W. Why not in Z, where the random vectors are? There a straight line does something odd. With 512 random numbers, the length of a `z` is nearly
# the same for every face, about √512 = 22.6: all of them lie on a thin shell. The straight line between two points of a shell runs through the inside.
#
# > **Predict:** two random vectors of length 1 stand at right angles, as nearly all do in 512 dimensions. How long is their mean?

# %%
z_a, z_b = dvlatent.normal(range(100), 512), dvlatent.normal(range(100, 200), 512)
halfway = (z_a + z_b) / 2
long, short = z_a.norm(dim=1), halfway.norm(dim=1)
print(f"length of a z: {long.mean():.1f}, give or take {long.std():.1f}; of the mean of two: {short.mean():.1f}")
print(f"that is {short.mean() / long.mean():.2f} of the usual length")

# %% [markdown]
# The arc keeps to the shell: it turns from one to the other by equal angles.


# %%
def arc(z_a, z_b, t):
    """Slerp by hand (Shoemake 1985)."""
    unit_a, unit_b = z_a / z_a.norm(dim=1, keepdim=True), z_b / z_b.norm(dim=1, keepdim=True)
    angle = torch.acos((unit_a * unit_b).sum(dim=1, keepdim=True))
    turned = (torch.sin((1 - t) * angle) * unit_a + torch.sin(t * angle) * unit_b) / torch.sin(angle)
    return turned * ((1 - t) * z_a.norm(dim=1, keepdim=True) + t * z_b.norm(dim=1, keepdim=True))


check("the arc by hand is dvlatent.slerp", arc(z_a, z_b, 0.3), dvlatent.slerp(z_a, z_b, 0.3))

# %%
ts = torch.linspace(0, 1, 41)
on_line, on_arc = ([way(z_a, z_b, float(t)).norm(dim=1).mean() for t in ts] for way in (dvlatent.lerp, dvlatent.slerp))
expected = 22.6 * (ts**2 + (1 - ts) ** 2).sqrt()
fig, axes = plot.chart(height=4.8)
axes.axhspan(22.6 - 1.4, 22.6 + 1.4, color="#e9e9e9", label="where 95 % of all z lie")
axes.plot(ts, on_arc, color=plot.COLORS[0], label="arc (slerp)")
axes.plot(ts, on_line, color=plot.COLORS[1], label="straight line (lerp)")
axes.plot(ts[::5], expected[::5], "o", color=plot.COLORS[1], label="predicted: 22.6 √(t² + (1−t)²)")
axes.set(title="The straight line in Z leaves the shell", xlabel="t, from a to b", ylabel="length of z", ylim=(14, 26))
fig.legend(loc="outside lower center", ncols=2)
plot.show(fig, alt="The arc keeps the length of z at 22.6 all the way; the straight line sags to 16 in the "
          "middle, far below the grey band.")

# %% [markdown]
# **Check your guess:** √½ = 0.71 of the usual length, nine standard deviations away from any random vector that was ever drawn. A generator that took such
# a `z` at its word would be asked for something that it never saw in training.
#
# This one is cleverer: its mapping network begins by giving every `z` the same length. So the straight line and the arc pass through the very
# same faces, only not at the same time: the line dawdles at both ends and hurries through the middle.

# %%
check("twice the z, the same w", faces.mapping(2 * z_a), faces.mapping(z_a))
t_line = torch.tensor(0.3)
t_arc = torch.atan2(t_line, 1 - t_line) / (torch.pi / 2)  # the angle reached, as a fraction of a right angle
print(f"at t = 0.30 the straight line has turned only as far as the arc at t = {t_arc:.2f}")

# %% [markdown]
# ## Z against W: which way is even?
#
# Three ways from one face to another, then: the straight line in Z, the arc in Z, the straight line in W. A good journey changes the picture by equal
# amounts in equal steps, and takes no detour. We walk each way in eight steps, for four pairs of faces, and measure the perceptual
# distance of every step. (It grows with the square of a small step, so its root is the **speed**.)
#
# > **Predict:** which of the three is the most even, and which is the shortest?

# %%
steps = torch.linspace(0, 1, 9)
pairs = [(CAST[0], CAST[1]), (CAST[2], CAST[3]), (CAST[4], CAST[5]), (CAST[6], CAST[7])]


def ways(seed_a, seed_b):
    """The same two ends, three ways between them: name -> [9, 512]."""
    z_a, z_b = dvlatent.normal(seed_a, 512), dvlatent.normal(seed_b, 512)
    w = {
        "line in Z": faces.mapping(dvlatent.lerp(z_a, z_b, steps)),
        "arc in Z": faces.mapping(dvlatent.slerp(z_a, z_b, steps)),
        "line in W": dvlatent.lerp(faces.mapping(z_a), faces.mapping(z_b), steps),
    }
    return {name: dvlatent.truncate(path, toward=faces.w_mean, psi=0.7) for name, path in w.items()}


# %%
speed = {}
for pair in pairs:
    for name, path in ways(*pair).items():
        features = distance.features(sketch(path))
        moved = distance(tuple(part[:-1] for part in features), tuple(part[1:] for part in features)).sqrt()  # [8]
        speed.setdefault(name, []).append(moved)
speed = {name: torch.stack(each) for name, each in speed.items()}  # name -> [4 pairs, 8 steps]
print("way           length   unevenness (how far a step is from the usual one)")
for name, each in speed.items():
    uneven = (each.std(dim=1) / each.mean(dim=1)).mean()
    print(f"{name:12} {each.sum(dim=1).mean() / speed['line in W'].sum(dim=1).mean():7.2f} {100 * uneven:10.0f} %")

# %%
rows = {name: path for name, path in ways(*pairs[0]).items() if name != "line in Z"}  # the arc has the same faces
columns = [f"{100 * t:.0f} %" for t in steps[::2]]
fig = plot.labeled_grid(
    torch.cat([paint(path[::2]) for path in rows.values()]), rows=list(rows), columns=columns,
    caption="The ends are the same. Above, dark glasses come and go; below, the first face turns straight into the last.",
)  # fmt: skip
plot.show(fig, alt="Two rows of five faces with equal ends. In Z other people appear on the way; in W the "
          "first face turns straight into the last.")

# %%
fig, axes = plot.chart(height=4.0)
for color, (name, each) in zip((1, 4, 2), speed.items(), strict=True):
    axes.plot((steps[1:] + steps[:-1]) / 2, each.mean(dim=0), "o-", color=plot.COLORS[color], label=name)
axes.set(title="How fast the picture changes", xlabel="t, from a to b", ylabel="speed", xlim=(0, 1))
axes.set_ylim(bottom=0)
axes.legend(loc="lower center", ncols=3)
plot.show(fig, alt="Speed along the three ways. The line in Z speeds up past the middle; the line in W is the "
          "lowest and the most even.")

# %% [markdown]
# **Check your guess:** in W the way is the shortest and the most even. (Between arc and line in Z, four pairs cannot decide: their faces are the same.)
# W before Z is also the order of the published path lengths, which lesson 03 measures properly. The rule of the field: **lerp in W, slerp in Z**.
#
# ## Blending only some layers
#
# The picture is painted by 16 layers, and each could have a `w` of its own. So you can also blend by parts: pose and shape from one face, colours from
# another. By hand it is one assignment.

# %%
base, other = dvlatent.broadcast(a, faces.num_layers), dvlatent.broadcast(b, faces.num_layers)  # [1, 16, 512]
mixed = base.clone()
mixed[:, 9:] = other[:, 9:]  # layers 9 to 15: the fine ones
check("by hand it is dvlatent.mix", mixed, dvlatent.mix(base, other, "fine"))

rows = [base, *(dvlatent.mix(base, other, layers) for layers in ("fine", "middle", "coarse")), other]
titles = ["a", "colours of b", "features of b", "shape of b", "b"]
note = "One group of layers from b at a time: fine, middle, coarse."
fig = plot.strip(faces.synthesis(torch.cat(rows)), titles=titles, caption=note)
plot.show(fig, alt="Five faces: a, then a with the colours, the features, or the shape and pose of b, then b "
          "itself.")

# %% [markdown]
# ## A journey
#
# With lerp between every two stops you can visit a whole row of faces. But at each stop the journey turns abruptly, as a ball does at a wall. `dvlatent.walk`
# passes through the same stops on a smooth curve (Catmull and Rom 1974).
#
# > **Predict:** by how many degrees does the straight journey turn at a stop?

# %%
stops = cast[[2, 5, 6, 1, 4]]  # [5, 512]
legs = [dvlatent.lerp(stops[at : at + 1], stops[at + 1 : at + 2], torch.arange(12) / 12) for at in range(4)]
straight = torch.cat([*legs, stops[-1:]])  # [49, 512]
smooth = dvlatent.walk(stops, 49)  # [49, 512]: frames 0, 12, 24, 36 and 48 are the stops
check("the walk passes through every stop", smooth[::12], stops)


def sharpest_turn(path):
    """The largest angle between one step of a path and the next, in degrees."""
    step = path[1:] - path[:-1]
    return torch.rad2deg(torch.acos(torch.cosine_similarity(step[1:], step[:-1], dim=1).clamp(-1, 1))).max()


print(f"sharpest turn, in degrees: straight legs {sharpest_turn(straight):.0f}, walk {sharpest_turn(smooth):.0f}")

# %%
plot.show_film(sketch(smooth), seconds=6, quality=50, alt="A film: one face turns smoothly into another, "
               "through five people, without a cut.")

# %% [markdown]
# **Check your guess:** more than a right angle. Two legs share a stop: one arrives at it, the other leaves it, and the way from the stop to anywhere else
# has much in common with the way back. The walk makes the same turn, spread over many frames.
#
# A **loop** leads back to its first stop, so the film has no end. We also write it to files that you can send to somebody: a GIF and an MP4.

# %%
import tempfile
from pathlib import Path

from PIL import Image as Pillow

loop = dvlatent.walk(stops, 40, loop=True)  # [40, 512]
step = (loop.roll(-1, dims=0) - loop).norm(dim=1)  # the last one leads from the last frame to the first
print(f"the step from the last frame back to the first is {2 * step[-1] / (step[0] + step[-2]):.1f} times its neighbours")
frames = sketch(loop)
with tempfile.TemporaryDirectory() as folder:  # give a folder of your own to keep them
    for name in ("loop.gif", "loop.mp4"):
        video.film(frames, Path(folder, name), fps=12, progress=False)
    with Pillow.open(Path(folder, "loop.gif")) as film:
        print(f"loop.gif and loop.mp4 are written; the GIF has {film.n_frames} frames")

# %%
plot.show_film(frames, seconds=5, quality=50, alt="A film without an end: five people turn into one another "
               "and the last one into the first.")

# %% [markdown]
# ## Exercises
#
# Replace `...`, run the cell, read the hint. Three of them, from easy to open.

# %% [markdown]
# ### Exercise 1: a family
# `c` is a third face. Make the vector that is half `a`, a quarter `b` and a quarter `c`.

# %% tags=["exercise"]
c = cast[4:5]
family = ...  # your line
expected = dvlatent.mean(torch.cat([a, b, c]), torch.tensor([2.0, 1.0, 1.0]))
check("exercise 1", family, expected, hint="the three shares sum to one")

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# family = a / 2 + b / 4 + c / 4
# ```
#
# A weighted mean is a mean in which some vectors count more than once: `dvlatent.mean(torch.cat([a, b, c]), torch.tensor([2.0, 1.0, 1.0]))`.
# Look at it with `plot.show(plot.strip(paint(family)), alt="a face of three parents")`.
# </details>

# %% [markdown]
# ### Exercise 2: how many for the average?
# How many random faces do you need so that their mean is expected to be twenty times nearer to the average face than one of them is?

# %% tags=["exercise"]
needed = ...  # a whole number
check("exercise 2", needed, 400, hint="the distance falls with the square root of the number: √n must be 20")

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# needed = 20**2
# ```
#
# Twenty times nearer costs four hundred faces: precision by averaging is always paid for with a square.
# </details>

# %% [markdown]
# ### Exercise 3: a loop of your own
# Make a closed loop of at least 24 frames through at least three faces of your own seeds, smooth where it closes. Then show it with `plot.show_film`.


# %% tags=["exercise"]
def closes(path):
    """Is the way from the last frame to the first a step like the others, and does it go anywhere?"""
    step = (path.roll(-1, dims=0) - path).norm(dim=1)
    if len(path) < 24:
        return f"a film needs more frames: {len(path)} are here, 24 were asked for"
    return bool(0.1 < step[-1] < 3 * step.mean()) or "the last frame has to be one step before the first: try loop=True"


my_loop = ...  # [frames, 512]
check("exercise 3", my_loop, closes)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# my_loop = dvlatent.walk(latents([1, 2, 3, 4]), 36, loop=True)
# ```
#
# Choose your own seeds. `plot.show_film(sketch(my_loop), alt="my own loop of four faces")` shows it.
# </details>

# %% [markdown]
# ## The answer
#
# **Question:** if faces are vectors, is the mean of two vectors the blend of two faces, and are there faces all the way between them?
# **Answer:** yes. The mean of two vectors is a third, whole face, on average nearer to its two parents than to others, where the mean of two
# pictures is a ghost. Every point of the line between them is a face, changing evenly; a good way beyond the ends it breaks. Averages of
# many close in on one average face, as 1/√n. In W go straight, in Z go by the arc.
#
# What this does not show: that the blend is what a child of the two would look like (biology does not average), or that the distance of a network is
# what *you* would call alike.
#
# ## What next
#
# The line from `a` to `b` changes everything at once. [05 · Where is age?](05_finding_directions.ipynb) looks for lines that change one thing: the mean of a thousand
# older faces minus the mean of a thousand younger ones. It is the same arithmetic as here.
