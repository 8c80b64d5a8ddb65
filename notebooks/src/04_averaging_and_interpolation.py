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
# **Time:** 40 s of computing on two CPU cores, 45 minutes of yours
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
from dvlatent import video
from dvlatent.lessons import plot
from dvlatent.lessons.teach import check
from dvlatent.stats import bootstrap

faces = dvlatent.load("faces")
# Chosen by eye among seeds 1 to 80: varied in age, perceived gender and skin tone, none broken.
CAST = [28, 70, 35, 54, 7, 75, 38, 37]

# %% [markdown]
# Four short helpers, used all through. A seed gives the random vector `z`; the mapping network makes a `w` of it, 512 numbers that
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
def around(values, form=".2f"):
    """The mean of some measurements, and the interval in which it would move with other faces (95 %)."""
    one = bootstrap(values.numpy())
    return f"{one.value:{form}} ({one.low:{form}} to {one.high:{form}})"


# %%
cast = latents(CAST)  # [8, 512]
titles = [f"seed {seed}" for seed in CAST]
fig = plot.strip(paint(cast), titles=titles, caption="The cast of this lesson. None of these people exists.")
plot.show(fig, alt="Eight portraits in a row: four women, an old man with glasses, a younger man and two "
          "children, with light and dark skin.")

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
    caption="In the middle a third person, with hair, skin and pose between those of both.",
)  # fmt: skip
plot.show(fig, alt="Three women. Left a young one with black hair, right one of about fifty with short gray "
          "curls. In the middle a third of about thirty with brown hair, as sharp as the others.")

# %% [markdown]
# **Check your guess:** a third person, sharp and whole, with something of both. Nobody told the network how to blend two faces. It
# learned to draw any face from 512 numbers, and so it had to put faces that are alike close together.
#
# ## What the pixel average gives instead
#
# The same sum, on the pictures: add two photographs pixel by pixel and divide by two. We take the first two of the cast, who are less
# alike. (All these faces are aligned, eyes upon eyes; that is as kind to the pixel average as one can be.)

# %%
one, two = cast[0:1], cast[1:2]
picture_one, person, picture_two = paint(torch.cat([one, (one + two) / 2, two])).split(1)
ghost = (picture_one + picture_two) / 2
fig = plot.strip(
    torch.cat([picture_one, ghost, person, picture_two]), titles=["seed 28", "mean of pixels", "mean of vectors", "seed 70"],
    caption="The same arithmetic in two places: pixels give a double exposure, vectors give a person.",
)  # fmt: skip
plot.show(fig, alt="A young woman, and right an old man with glasses. Their mean of pixels shows both through "
          "each other, with two hairlines; their mean of vectors is one man of about fifty.")

# %% [markdown]
# The eye sees a ghost at once. A number should see it, too: in a double exposure, an edge of one face falls on the smooth skin of the other, and is
# halved. So we look for **strong edges**, steps between neighbouring pixels that one in a hundred of the parents' exceeds. One pair proves
# little: we take sixteen strangers, in eight couples.
#
# > **Predict:** where the parents have 1, how many strong edges are left in the ghosts? And in the blends?


# %%
def edges(image):
    """The steps between neighbouring pixels: [batch, steps]."""
    return (image[..., 1:] - image[..., :-1]).abs().mean(dim=1).flatten(1)


people = latents(range(200, 216))  # [16, 512]
couples = (people[0::2] + people[1::2]) / 2  # [8, 512]: 0 with 1, 2 with 3, ...
pictures, blends = sketch(people), sketch(couples)
ghosts = (pictures[0::2] + pictures[1::2]) / 2
strong = edges(pictures).quantile(0.99, dim=1).view(8, 2).mean(dim=1, keepdim=True)  # one in a hundred is above
for name, image in {"mean of pixels": ghosts, "mean of vectors": blends}.items():
    print(f"{name:16} {around((edges(image) > strong).float().mean(dim=1) / 0.01)} of the parents' strong edges")

# %% [markdown]
# **Check your guess:** the ghosts keep about a quarter of the strong edges, the blends most. (These are a little smoother than their parents: nearer
# to the average face.) Pixels are a bad place for arithmetic: between two photographs there are hardly any photographs. W is a good one.
#
# ## Is it really between them? By numbers
#
# "Something of both" is easy to imagine. Here is an instrument: the **perceptual distance** ([Zhang et al. 2018](https://arxiv.org/abs/1801.03924)) asks a network that was
# trained to name things how different two pictures look to it (0: equal). We measure from each of the eight blends to all sixteen people.
#
# One trap to avoid: a mean lies nearer to the average face, which resembles *everybody* a little. So it proves nothing that
# a blend is nearer to its parents than two strangers are to each other. The fair question is: is the **same** blend nearer to its own two
# parents than to the fourteen others?
#
# > **Predict:** sort the sixteen by their distance from a blend. Which places do its parents take, on average? It would be 1.5 at best, and 8.5 by luck.

# %%
distance = dvlatent.load("perceptual")
seen = distance.features(pictures)  # look at the sixteen only once
table = torch.stack([distance(one, seen) for one in blends.split(1)])  # [8 blends, 16 people]

own = torch.eye(8).repeat_interleave(2, dim=1).bool()  # whose parents are whose
print(f"mean distance of a blend to its parents {table[own].mean():.2f}, to the others {table[~own].mean():.2f}")
rank = table.argsort(dim=1).argsort(dim=1)[own] + 1  # [16]: 1 for the nearest, 16 for the farthest
print("a parent's place among the sixteen, on average:", around(rank.view(8, 2).float().mean(dim=1), ".1f"))
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
plot.show(fig, alt="Eight rows of dots, one for each blend. The two large orange dots, the parents, lie left of "
          "most gray ones; in six rows one of them is the leftmost, in two a stranger is.")

# %% [markdown]
# **Check your guess:** the parents lead, but not always: now and then a stranger with the same pose or the same light comes between. The
# instrument sees hair, glasses, light and pose as much as the features of a face. It says that the blend *looks like* its parents; it does not say that a
# friend would take it for their child. For that you need a network trained to recognise people (lesson 06).
#
# A second instrument that knows nothing of the first: a network that guesses an age. It is a perceived age, with errors of years.

# %%
attributes = dvlatent.load("attributes")
age, blend_age = attributes(pictures)[:, 0], attributes(blends)[:, 0]  # [16], [8], years
between = (age[0::2] + age[1::2]) / 2  # the parents' mean
others = torch.stack([between.roll(shift) for shift in range(1, 8)])  # the same for all wrong couples
print(f"perceived ages of the people: {age.min():.0f} to {age.max():.0f} years")
print("years between a blend's age and its parents' mean:", around((blend_age - between).abs(), ".0f"))
print("... and the mean of a wrong couple:", around((blend_age - others).abs().mean(dim=0), ".0f"))

# %% [markdown]
# ## Intensities
#
# The mean is one point of a line: `a + t (b − a)` is `a` at 0 %, the blend at 50 % and `b` at 100 %. A filter's strength dial is exactly this
# `t`. Nothing stops you from going further.
#
# > **Predict:** how far beyond 100 % can you go before it stops being a face?

# %%
t = torch.tensor([0, 0.25, 0.5, 0.75, 1, -1, -0.5, 1.5, 2, 3])
line = a + t[:, None] * (b - a)  # [10, 512], by hand
check("the line by hand is dvlatent.lerp", line, dvlatent.lerp(a, b, t))

words = [f"{100 * at:.0f} %".replace("-", "−") for at in t]
note = "Above: from a to b. Below: beyond both ends. At 300 % nothing is left of a face."
fig = plot.faces(paint(line), columns=5, titles=words, caption=note)
plot.show(fig, alt="Upper row: a young woman with black hair turns in five steps into one of fifty with gray curls. "
          "Lower row: at minus 100 % a girl, at 200 % an old face under a mop of white hair, at 300 % torn colors.")

# %%
far = (line - faces.w_mean).norm(dim=1) / (latents(range(1000)) - faces.w_mean).norm(dim=1).mean()
print("distance from the average face, where 1 is usual:")
for at in t.argsort():
    print(f"{words[at]:>8} {far[at]:5.1f}")

# %% [markdown]
# **Check your guess:** on the way from `a` to `b` you come nearer to the average face; beyond them you leave the region where the generator
# has ever drawn anything. At 200 % a face is still there, at 300 % none is. Edits that are too strong fail for this reason (lesson 05).
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
plot.show(fig, alt="On logarithmic axes, dots at 1, 4, 16, 64 and 256 faces lie around a straight line that falls "
          "from 1 to 1/16; sixteen dots of one number of faces differ by a fifth or so.")

# %%
start = CAST[0]  # the crowd's seeds are 0 to 4095: begin with a face that we know
means = torch.cat([crowd[start : start + n].mean(dim=0, keepdim=True) for n in counts] + [faces.w_mean[None]])
fig = plot.strip(
    paint(means), titles=["1 face", *(f"mean of {n}" for n in counts[1:]), "w̄"],
    caption="The last one, w̄, is the mean of 100,000 faces: nobody at all. The mean of 64 is hard to tell from it.",
)  # fmt: skip
plot.show(fig, alt="Six faces: a woman with dark skin; the mean of 4, a young man; the means of 16, 64 and 256, and "
          "the average face: a smiling face with short brown hair. The last three look alike.")

# %% [markdown]
# Look at who the average is: smooth skin, a smile, no strong feature. It is a portrait of a data set, not of mankind: FFHQ ([Karras et al. 2019](https://arxiv.org/abs/1812.04948)), photos that people put on the web.
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
# The arc keeps to the shell: it turns from one to the other by equal angles ([Shoemake 1985](https://doi.org/10.1145/325334.325242)).


# %%
def arc(z_a, z_b, t):
    """Slerp by hand."""
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
plot.show(fig, alt="The arc runs level at 22.6, in the middle of a gray band from 21 to 24; the straight line sags "
          "to 16 half way, far below the band, through the predicted dots.")

# %% [markdown]
# **Check your guess:** √½ = 0.71 of the usual length, nine standard deviations below the usual one. A generator that took such
# a `z` at its word would be asked for what it never saw in training. This one is cleverer: its mapping network begins by giving every `z` the same length. So the straight line and the arc pass through the very
# same faces, only not at the same time: the line dawdles at both ends and hurries through the middle.

# %%
check("twice the z, the same w", faces.mapping(2 * z_a), faces.mapping(z_a))
t_line = torch.tensor(0.3)
t_arc = torch.atan2(t_line, 1 - t_line) / (torch.pi / 2)  # the angle reached, as a fraction of a right angle
print(f"at t = 0.30 the straight line has turned only as far as the arc at t = {t_arc:.2f}")

# %% [markdown]
# ## Z against W: which way is even?
#
# Two ways from one face to another, then, that differ in the faces they pass: the arc in Z, and the straight line in W. A good journey changes the picture by
# equal amounts in equal steps, and takes no detour. We walk each way in six steps, for twelve pairs of faces, and measure the perceptual
# distance of every step. (It grows with the square of a small step, so its root is the **speed**.)
#
# > **Predict:** which of the two is shorter, and by how much? Which is more even?

# %%
ends = [dvlatent.normal(range(first, first + 12), 512) for first in (400, 500)]  # twelve pairs of random vectors


def ways(z_a, z_b, steps):
    """The same two ends, two ways between them: name -> [step, 512]."""
    w = {
        "arc in Z": faces.mapping(dvlatent.slerp(z_a, z_b, steps)),
        "line in W": dvlatent.lerp(faces.mapping(z_a), faces.mapping(z_b), steps),
    }
    return {name: dvlatent.truncate(path, toward=faces.w_mean, psi=0.7) for name, path in w.items()}


# %%
steps, speed = torch.linspace(0, 1, 7), {"arc in Z": [], "line in W": []}
for z_a, z_b in zip(*(end.split(1) for end in ends), strict=True):
    for name, path in ways(z_a, z_b, steps).items():
        features = distance.features(sketch(path))
        speed[name].append(distance(tuple(part[:-1] for part in features), tuple(part[1:] for part in features)).sqrt())
speed = {name: torch.stack(each) for name, each in speed.items()}  # name -> [12 pairs, 6 steps]
uneven = {name: 100 * each.std(dim=1) / each.mean(dim=1) for name, each in speed.items()}
length = speed["arc in Z"].sum(dim=1) / speed["line in W"].sum(dim=1)
for name, each in uneven.items():
    print(f"{name:10} a step differs from the pair's usual one by", around(each, ".0f"), "%")
print("difference, pair by pair:", around(uneven["arc in Z"] - uneven["line in W"], ".0f"), "points")
print(f"the arc is longer by a factor of {around(length)}; longer for {int((length > 1).sum())} pairs of 12")

# %%
rows = ways(dvlatent.normal(CAST[0], 512), dvlatent.normal(CAST[1], 512), torch.linspace(0, 1, 5))
columns = ["0 %", "25 %", "50 %", "75 %", "100 %"]
fig = plot.labeled_grid(
    torch.cat([paint(path) for path in rows.values()]), rows=list(rows), columns=columns,
    caption="The ends are the same. Above, dark glasses come half way and turn into light ones; below, glasses come late.",
)  # fmt: skip
plot.show(fig, alt="Two rows of five faces from a young woman to an old man. On the arc in Z the man in the middle "
          "wears dark glasses; on the line in W he has none, and light ones come at 75 %.")

# %%
fig, axes = plot.chart(height=4.0)
for color, (name, each) in zip((1, 2), speed.items(), strict=True):
    axes.plot((steps[1:] + steps[:-1]) / 2, each.T, color=plot.COLORS[color], alpha=0.3, linewidth=1)
    axes.plot((steps[1:] + steps[:-1]) / 2, each.mean(dim=0), "o-", color=plot.COLORS[color], label=name)
axes.set(title="How fast the picture changes, for twelve pairs and on average", xlabel="t, from a to b", ylabel="speed", xlim=(0, 1))
axes.set_ylim(bottom=0)
axes.legend(loc="lower center", ncols=2)
plot.show(fig, alt="Twelve thin lines and a thick mean for each way. The mean of the arc in Z lies above that of the "
          "line in W; both means are level, but the arc's thin lines go up and down more.")

# %% [markdown]
# **Check your guess:** in W the way is shorter for every pair, and more even on average, by more than the interval. (What the arc passes on its detour are
# other people.) The published path lengths say the same ([Karras et al. 2019](https://arxiv.org/abs/1812.04948), lesson 03). The rule of the field: **lerp in W, slerp in Z**.
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
note = "One group of layers from b at a time. Fine: warmer skin and hair. Middle: older skin. Coarse: head and hair."
fig = plot.strip(faces.synthesis(torch.cat(rows)), titles=titles, caption=note)
plot.show(fig, alt="Five faces: a; a with redder hair; a with older skin and her own hair; a face with the short hair "
          "and the pose of b in a red collar; and b itself.")

# %% [markdown]
# ## A journey
#
# With lerp between every two stops you can visit a whole row of faces. But at each stop the journey turns abruptly, as a ball does at a wall. `dvlatent.walk`
# passes through the same stops on a smooth curve ([Catmull and Rom 1974](https://doi.org/10.1016/B978-0-12-079050-0.50020-5)); you will write it in exercise 3.
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
# **Check your guess:** more than a right angle. The walk makes the same turn, spread over many frames.
#
# A **loop** leads back to its first stop, so the film has no end. We also write it to files that you can send: a GIF and an MP4.

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
# Replace `...`, run the cell, read the hint.

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
# Precision by averaging is paid for with a square.
# </details>

# %% [markdown]
# ### Exercise 3: the smooth way, by hand
# Between stops `p1` and `p2`, Catmull and Rom go along `p(t) = p1 + t m1 + t² (3 (p2 − p1) − 2 m1 − m2) + t³ (2 (p1 − p2) + m1 + m2)`, where
# the velocities at the two stops, `m1 = (p2 − p0) / 2` and `m2 = (p3 − p1) / 2`, look at the neighbours `p0` and `p3`. Write the closed journey: after the
# last stop comes the first. Frame `k` is at `k · stops / frames`: the whole part is the leg, the rest is `t`.


# %% tags=["exercise"]
def journey(stops, frames):
    """[stop, 512] -> [frames, 512], closed."""
    ...  # your lines


check("exercise 3", journey, lambda f: bool(torch.allclose(f(stops, 40), loop, atol=1e-4)) or f"frame 0 is stop 0, frame 8 is stop 1; yours is off by {(f(stops, 40) - loop).abs().max():.2f}")

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def journey(stops, frames):
#     path, count = [], len(stops)
#     for k in range(frames):
#         leg, t = divmod(k * count / frames, 1)
#         p0, p1, p2, p3 = (stops[(int(leg) + at) % count] for at in (-1, 0, 1, 2))
#         m1, m2 = (p2 - p0) / 2, (p3 - p1) / 2
#         path.append(p1 + t * m1 + t**2 * (3 * (p2 - p1) - 2 * m1 - m2) + t**3 * (2 * (p1 - p2) + m1 + m2))
#     return torch.stack(path)
# ```
#
# Each leg arrives with the velocity with which the next one leaves. Try your own seeds:
# `plot.show_film(sketch(journey(latents([1, 2, 3, 4]), 36)), alt="my own loop of four faces")`.
# </details>

# %% [markdown]
# ### An open question
# The mean of 256 faces has smooth skin and a slight smile. Which of it is a fact about people, which about photographs, and which about averaging? What
# would you measure to tell them apart?

# %% [markdown]
# ## The answer
#
# **Question:** is the mean of two vectors the blend of two faces, and are there faces all the way between them?
# **Answer:** yes. The mean of two vectors is a third, whole face, on average nearer to its two parents than to others; the mean of two
# pictures is a ghost, which has lost most strong edges. Every point between them is a face, changing evenly; a good way beyond the ends it breaks. Averages of
# many close in on one average face, as 1/√n. In W go straight, in Z go by the arc.
#
# What this does not show: that a child of the two would look like the blend (biology does not average).
#
# ## What next
#
# The line from `a` to `b` changes everything at once. [05 · Where is age?](05_finding_directions.ipynb) looks for lines that change one thing: the mean of many
# older faces minus the mean of many younger ones.
