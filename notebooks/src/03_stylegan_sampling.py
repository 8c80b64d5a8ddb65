# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 03 · What is in a style?
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/dvlatent/blob/main/notebooks/03_stylegan_sampling.ipynb)
#
# **Question:** 512 numbers name a face. Where in the picture do they end up, and what does the network do to them first?
#
# **You will:**
# - follow one face from a random vector to pixels, and build its mapping and one of its layers by hand,
# - measure how far the picture moves when the numbers move a little,
# - hand coarse, middle and fine styles from one face to another,
# - in the second half: feel what 512 dimensions are like, and measure with two instruments that W is better ordered than Z.
#
# **Before this:** [00 · Start here](00_start_here.ipynb), and a little Python
#
# **Time:** 80 s of computing on two CPU cores, 45 and 40 minutes of yours (a place to stop is marked)
#
# **Explains:** the part of the video where a vector becomes a face, and a small change of it a slightly different face

# %% tags=["setup"]
from importlib.util import find_spec

if find_spec("dvlatent") is None:  # on Colab: the library, then the weights; elsewhere this does nothing
    get_ipython().run_line_magic("pip", 'install -q "dvlatent @ git+https://github.com/OWNER/dvlatent"')
    get_ipython().system("dvlatent assets")

# %%
import numpy as np
import torch

import dvlatent
from dvlatent import broadcast, lerp, mix, normal, slerp
from dvlatent.editing import survey
from dvlatent.images import resize
from dvlatent.lessons import diagrams, plot
from dvlatent.lessons.teach import check
from dvlatent.metrics import latent as measure

torch.set_grad_enabled(False)  # today we only look; lesson 06 needs gradients
faces = dvlatent.load("faces")
distance = dvlatent.load("perceptual")

# %% [markdown]
# ## From a random vector to a face
#
# A face starts as **z**, a **random vector**: 512 numbers, normally distributed. A **seed** fixes them on every computer. The **mapping network**, eight layers, turns z into **w**, 512 other numbers. Lesson 02 had a latent space of two
# dimensions; here are two **latent spaces** of 512: **Z**, of all z, and **W**, of all w. Every point is a face.
#
# The **synthesis network** draws: it starts from one block of 4 x 4 numbers, always the same, and doubles it up to 1024 x
# 1024. In each of its 16 layers, w decides which channels are let in and how strongly: the layer's **style**.

# %%
z = normal(85, faces.z_dim)  # [1, 512]: the random vector
w = faces.mapping(z)  # [1, 512]: the coordinates
ws = broadcast(w, faces.num_layers)  # [1, 16, 512]: the same w for every layer
image = faces.synthesis(ws)  # [1, 3, 1024, 1024] in [-1, 1]
plot.show(
    diagrams.pipeline(z[0], w[0], image),
    alt="512 coloured tiles, z, become 512 other tiles, w, which feed each of 16 layers, coarse, middle and fine; out comes a woman with glasses.",
)

# %% [markdown]
# The picture was drawn by [MobileStyleGAN](https://arxiv.org/abs/2104.04767), a small student of
# [StyleGAN2](https://arxiv.org/abs/1912.04958), whose mapping network and W it kept. It learned from 70,000 photos. The mapping by hand is eight times the same three things: mix all numbers (a matrix), bend them (below zero, a fifth is left), scale.

# %%
x = z / z.square().mean(dim=1, keepdim=True).sqrt()  # only the direction of z counts: its length is divided out
for layer in faces.mapping_layers:
    x = x @ layer.weight.T + layer.bias
    x = torch.where(x > 0, x, 0.2 * x) * 2**0.5
check("eight layers by hand are the mapping network", x, w)
check("twice the z, the same w", faces.mapping(2 * z), w)

# %% [markdown]
# And here is the first of the 16 layers, a **styled convolution**: scale the channels by the style, convolve, add noise, bend.

# %%
layer = faces.conv1
style = (w @ layer.modulation.weight.T + layer.modulation.bias) * layer.scale  # [1, 512]: one number for each channel
x = faces.constant * style[:, :, None, None]  # modulate: [1, 512, 4, 4]
x = torch.nn.functional.conv2d(x, layer.weight, padding=1)
x = x + layer.noise + layer.bias[:, None, None]
x = torch.where(x > 0, x, 0.2 * x)
check("a styled convolution by hand is the first layer", x, layer(faces.constant, w))

# %%
for strength in (1, 10):
    filters = layer.weight * (strength * style[0])[:, None, None]  # to scale a channel is to scale its column of every filter
    demodulated = filters / filters.square().sum(dim=(1, 2, 3), keepdim=True).sqrt()  # every filter is of length one
    plain, kept = (torch.nn.functional.conv2d(faces.constant, some, padding=1).std() for some in (filters, demodulated))
    print(f"style x {strength:2}: standard deviation of the output {plain:.1f}, with demodulation {kept:.1f}")

# %% [markdown]
# <details><summary>Why demodulation?</summary>
#
# One strong style makes a whole layer ten times as large, and there are sixteen in a row. The first StyleGAN therefore normalized every channel by what it held just then, and paid with
# a blob like a droplet in every picture: a spike there was how the network smuggled strength past the normalization. [StyleGAN2](https://arxiv.org/abs/1912.04958) (equation 3)
# divides by the length of the filters instead, without looking at the picture, and the droplets are gone. In this student the lengths were fixed when it was made, and are part of `layer.weight`.
# </details>
#
# ## Same numbers, same face
#
# > **Predict:** draw the same w twice. How many of the 3 million numbers of the picture differ?

# %%
again = faces.synthesis(broadcast(faces.mapping(normal(85, 512)), 16))
print(f"numbers that differ: {int((again != image).sum())} of {image.numel():,}")

# %% [markdown]
# None: **the vector is the face.** (StyleGAN itself draws fresh noise for every layer. Here it is frozen.)
#
# ## A small step, a small change
#
# Now nudge the numbers. Pixels are a poor judge of how much a picture changes: shift a face by one pixel and every hair "differs". A
# **perceptual distance** ([Zhang et al. 2018](https://arxiv.org/abs/1801.03924)) compares what a network that learned to recognise things sees in both pictures: 0 is equal, two strangers
# are somewhat more than 1 apart on ours.
#
# We walk between two faces, in Z along an arc (`slerp`, lesson 04 says why) and in W along a straight line (`lerp`).
#
# > **Predict:** after a tenth of the way, how far has the picture come: a tenth, more, less? In Z and in W?

# %%
fractions = torch.tensor([0, 0.05, 0.1, 0.2, 0.5, 1.0])
z_two = normal([35, 7], faces.z_dim)
w_two = faces.mapping(z_two)
walks = {
    "Z": faces.mapping(slerp(z_two[:1], z_two[1:], fractions)),
    "W": lerp(w_two[:1], w_two[1:], fractions),
}
pictures = torch.cat([faces.preview(broadcast(walk, 16)) for walk in walks.values()])  # 256 px, several times faster than the full render
fig = plot.labeled_grid(pictures, ["along\nZ", "along\nW"], [f"{100 * fraction:.0f} %" for fraction in fractions], caption="Same start, same end; the ways differ.")
plot.show(fig, alt="Two rows of six faces from a young woman to an older one with red curls. Up to 20 % both rows change a little; halfway they show two different women.")

# %%
steps = 10.0 ** torch.arange(-3, 0.01, 0.5)  # 0.001 ... 1, fractions of the way
curves = {"Z": [], "W": []}
for pair in range(4):
    z_pair = normal([1000 + 2 * pair, 1001 + 2 * pair], faces.z_dim)
    w_pair = faces.mapping(z_pair)
    start = distance.features(faces.preview(broadcast(w_pair[:1], 16)))
    ways = {"Z": faces.mapping(slerp(z_pair[:1], z_pair[1:], steps)), "W": lerp(w_pair[:1], w_pair[1:], steps)}
    for space, way in ways.items():
        curves[space].append(distance(faces.preview(broadcast(way, 16)), start).numpy())
means = {space: np.mean(rows, axis=0) for space, rows in curves.items()}

# %%
fig, axes = plot.chart(height=5)
for space, color in zip(curves, plot.COLORS, strict=False):
    axes.loglog(steps, np.transpose(curves[space]), color=color, alpha=0.25, lw=1.2)
    axes.loglog(steps, means[space], "o-", color=color, label=f"in {space}: four pairs, and their mean")
axes.loglog(steps[:4], means["W"][0] * (steps[:4] / steps[0]) ** 2, "--", color=plot.QUIET, lw=1.5, label="twice the step, four times the distance")
axes.set(ylim=(1e-5, 3), xlabel="step, as a fraction of the way to another face")
axes.set(ylabel="perceptual distance to the start", title="A small step, a small change")
axes.legend(loc="lower right")
plot.show(fig, alt="Perceptual distance against step size: both curves rise steadily; small steps follow a line of slope two. Z lies above W, until they meet near a third of the way.")

# %%
at = {fraction: i for i, fraction in enumerate([0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0])}
growth = means["W"][at[0.01]] / means["W"][at[0.001]]
print(f"in W, ten times a tiny step (0.001 to 0.01): the distance grows about {growth:.0f} times")
for space in curves:
    print(f"in {space}: a tenth of the way is {means[space][at[0.1]] / means[space][at[1.0]]:.0%} of the final distance")

# %% [markdown]
# **Check your guess.** The curves have no jumps: neighbours in latent space are neighbours in looks, and that is what makes sliders possible.
# Tiny steps count by their *square* (the dashed line; at 0.01 the curve already bends). And most of the distance is
# covered early: from the middle on, the picture is somebody else, and somebody else is about as far as anybody.
#
# ## Truncation: safer faces, fewer kinds
#
# Far from the middle of W, the network has seen few examples, and faces break. **Truncation** ([Karras et al. 2019](https://arxiv.org/abs/1812.04948)) pulls w toward the average w̄ of 100,000
# faces: `w̄ + ψ (w − w̄)`. ψ = 1 changes nothing; ψ = 0 is the average itself.

# %%
psis = [1.0, 0.7, 0.5, 0.3, 0.0]
w_some = faces.mapping(normal([10, 53, 75], faces.z_dim))
by_hand = torch.cat([faces.w_mean + psi * (one - faces.w_mean) for one in w_some.split(1) for psi in psis])
check("ψ = 0.7 by hand is dvlatent.truncate", by_hand[1::5], dvlatent.truncate(w_some, toward=faces.w_mean, psi=0.7))
fig = plot.labeled_grid(
    faces.preview(broadcast(by_hand, 16)),
    ["seed 10", "seed 53", "seed 75"],
    [f"ψ = {psi:g}" for psi in psis],
    caption="Damage heals on the way to the average, and everything that made the face somebody goes with it.",
)
plot.show(fig, alt="Three faces in five strengths of truncation: at 1 one of them is broken; all become the same average woman at 0.")

# %% [markdown]
# Look at the last row: a man's dark skin grows lighter step by step, and in the end he is a woman. Truncation looks like a quality dial; here it takes
# skin tone and perceived gender, too. Three faces do not tell whom it changes most; that has to be counted.
#
# > **Predict:** how much variety is left at ψ = 0.5? Half?
#
# Variety as a number: the mean perceptual distance of strangers (16 pairs), and the standard deviation of their **perceived** ages: what a stranger would guess from the picture.

# %%
attributes = dvlatent.load("attributes")
w_crowd = faces.mapping(normal(range(200, 216), faces.z_dim))
variety = []
for psi in psis[:-1]:  # at ψ = 0 all are one
    crowd = faces.preview(broadcast(dvlatent.truncate(w_crowd, toward=faces.w_mean, psi=psi), 16))
    seen = distance.features(crowd)
    strangers = distance(seen, tuple(feature.roll(1, dims=0) for feature in seen)).mean()
    years = attributes(crowd)[:, 0]
    variety.append((float(strangers), float(years.std())))
    print(f"ψ = {psi:.1f}: distance between strangers {strangers:.1f}, standard deviation of perceived age {years.std():2.0f} years")

# %%
fig, axes = plot.chart(1, 2, height=4)
labels = ["perceptual distance between strangers", "deviation of perceived age (years)"]
for ax, values, label, color in zip(axes, zip(*variety, strict=True), labels, plot.COLORS, strict=False):
    ax.plot(psis, [*values, 0], "o-", color=color)
    ax.plot([0, 1], [0, values[0]], "--", color=plot.QUIET, lw=1.5)
    ax.set(xlabel="truncation ψ", ylim=(0, 1.1 * values[0]), title=label)
plot.show(fig, alt="Two charts: variety falls with ψ; the perceptual distance stays far above the proportional line, the deviation of ages less far.")

# %% [markdown]
# **Check your guess.** The dashed line is "half ψ, half the variety". At half ψ about four fifths of the distance between strangers are left, and two thirds of the deviation of ages.
# So a population for studying *age* should be truncated little, and ψ belongs beside every number.

# %% [markdown]
# ## Styles enter at every level
#
# **Style mixing** gives some layers the w of another face. By size of the picture that a layer works on: **coarse** layers 0 to 4 (4 to 16 pixels), **middle** layers 5 to 8 (up to 64), **fine** layers 9 to 15.
#
# > **Predict:** the woman of seed 85 gets the *coarse* styles of a child. What changes: her age, her pose, her colours? And with the
# > child's *fine* styles?

# %%
ws_base = broadcast(faces.mapping(normal(85, faces.z_dim)), 16)
ws_style = broadcast(faces.mapping(normal([6, 82, 19, 75, 63], faces.z_dim)), 16)
levels = ["coarse", "middle", "fine"]
mixed = torch.cat([mix(ws_base, ws_style, level) for level in levels])  # [15, 16, 512]
by_hand = ws_base.clone()
by_hand[:, 0:5] = ws_style[0, 0:5]
check("coarse styles by hand are dvlatent.mix", by_hand, mixed[:1])
renders = resize(faces.synthesis(torch.cat([ws_base, ws_style, mixed])), 256)  # full renders: fine styles deserve them
base, styles, mixtures = renders[:1], renders[1:6], renders[6:]

# %%
table = torch.cat([torch.cat([base, base, base]).view(3, 1, *base.shape[1:]), mixtures.view(3, 5, *base.shape[1:])], dim=1).flatten(0, 1)
fig = plot.labeled_grid(
    torch.cat([torch.cat([torch.ones_like(base), styles]), table]),
    ["styles\nfrom", "coarse", "middle", "fine"],
    ["the base ↓"] + [""] * 5,
    caption="Each face is the base (left), with one level of its styles taken from the face on top of the column.",
)
plot.show(
    fig,
    alt="One woman, mixed with five faces: coarse styles bring their pose, age and shape of hair, middle styles their features, fine styles only their colours.",
)

# %% [markdown]
# Coarse styles carry pose, the shape of head and hair, glasses, and with them most of who it is. Middle styles reshape eyes, nose and
# mouth. Fine styles leave the person alone and repaint: skin, hair, light, background.

# %% [markdown]
# ### Layer by layer, measured
#
# Now each layer alone: how far does it move the picture, in percent of the way to the other face?
# **Form** is the perceptual distance of the grey pictures, **colour** the difference in tint of 8 x 8 large patches.
#
# > **Predict:** all seven fine layers together: how many percent of the form, how many of the colour?

# %%
def form(a, b):
    gray = [x.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1) for x in (a, b)]
    return distance(*gray)


def tint(a, b):
    colors = [resize(x, 8) - resize(x, 8).mean(dim=1, keepdim=True) for x in (a, b)]  # what is left of a colour without its brightness
    return (colors[0] - colors[1]).abs().mean(dim=(1, 2, 3))


# %%
moved = []  # [pair, measure, layer or level]
for seeds in ([500, 501], [502, 503]):
    one, other = broadcast(faces.mapping(normal(seeds, faces.z_dim)), 16).split(1)
    swapped = [mix(one, other, layers) for layers in (*range(16), *levels)]
    seen = torch.cat([resize(faces.synthesis(w_layers), 256) for w_layers in (one, other, *swapped)])
    moved.append([(way(seen[:1], seen[2:]) / way(seen[:1], seen[1:2])).numpy() for way in (form, tint)])
percent = 100 * np.mean(moved, axis=0)  # [measure, layer or level]
for at, level in enumerate(levels, 16):
    print(f"all {level} layers together: {percent[0, at]:3.0f} % of the form, {percent[1, at]:3.0f} % of the colour")

# %%
fig, axes = plot.chart(2, 1, height=6, sharex=True)
for ax, row, title in zip(axes, percent, ["form: perceptual distance of grey pictures", "colour: tint of large patches"], strict=True):
    ax.bar(range(16), row[:16], color=diagrams.level_colors(16))
    ax.set(ylabel="% of the way", title=title, ylim=(0, 75))
    ax.grid(visible=False, axis="x")
for name, color in diagrams.LEVELS.items():
    center = np.mean(dvlatent.layer_range(name, 16))
    axes[1].text(center, 62, name, color=color, size=16, ha="center")
axes[1].set(xlabel="the one layer whose style comes from another face", xticks=range(16))
plot.show(fig, alt="Bars for 16 layers: form is moved most by the first layers and hardly by the last; colour by many, most by the very last one.")

# %% [markdown]
# **Check your guess.** Form is decided early and settled after layer 8; fine layers move colour and hardly anything else. Coarse layers move
# "colour" too, because they move *things*: where hair was, there is now a wall. It is the architecture that makes the levels: a layer of 4 x 4
# numbers cannot place a hair, and one of 512 x 512 cannot turn a head.
#
# ## Where is the noise?
#
# Noise in each layer saves coordinates for the place of every single hair. Here it is one fixed pattern per layer; we can take the patterns away, or
# mirror them: another draw, just as likely.
#
# > **Predict:** which parts of the portrait change, and is she still herself?

# %%
import copy

silent, mirrored = copy.deepcopy(faces), copy.deepcopy(faces)
for network, change in ((silent, torch.zeros_like), (mirrored, lambda noise: noise.flip(1))):
    for conv in (network.conv1, *(conv for block in network.blocks for conv in (block.conv1, block.conv2))):
        conv.noise.copy_(change(conv.noise))
without, other_noise = silent.synthesis(ws), mirrored.synthesis(ws)
for size_px, block in zip([8 << i for i in range(7)], faces.blocks, strict=True):
    print(f"{size_px:3} pixels: noise of strength {block.conv1.noise.std():.2f} and {block.conv2.noise.std():.2f}")

# %%
changes = [(image - other).abs().mean(dim=1, keepdim=True) for other in (without, other_noise)]  # [1, 1, 1024, 1024]
hair, forehead, wall = (slice(100, 230), slice(440, 600)), (slice(280, 330), slice(400, 600)), (slice(100, 400), slice(20, 200))
hair_change, forehead_change, wall_change = (float(changes[1][0, 0][where].mean()) for where in (hair, forehead, wall))
print(f"another draw of noise: the hair changes about {hair_change / forehead_change:.0f} times as much as the forehead")
patch = (slice(None), slice(None), slice(60, 316), slice(300, 556))
maps = [2 * resize((6 * change / 2).clamp(0, 1), 256).expand(-1, 3, -1, -1) - 1 for change in changes]
titles = ["frozen noise", "without noise", "mirrored noise", "the whole face", "what 'without' changes, x 6", "what 'mirrored' changes, x 6"]
shown = torch.cat([image[patch], without[patch], other_noise[patch], resize(image, 256), *maps])
fig = plot.faces(shown, columns=3, titles=titles, caption="Above, a piece at full size: other noise, other strands. She stays herself.")
plot.show(
    fig, alt="A patch of hair with noise, smooth without, and with other strands under mirrored noise; the differences sit in the hair and on edges."
)

# %% [markdown]
# **Check your guess.** Without noise the hair is combed smooth; with other noise other strands fall, on the same head. (The list: the
# noise is strong at 32, 128 and 256 pixels only.)
#
# > **A place to stop.** You know what z, w, styles, noise and ψ do. The second half asks what kind of space they live in.
#
# ## What 512 dimensions are like
#
# > **Predict:** 1. Do lengths of random vectors vary by 50 %, by 10 %, by 3 %? 2. What is the angle between two of them? 3. Among 1,000, how
# > much nearer is the nearest neighbour than the farthest stranger?

# %%
sizes = [2, 16, 128, 512]
clouds = {d: np.random.RandomState(d).randn(6000, d) for d in sizes}
lengths, angles, gaps = {}, {}, {}
for d, cloud in clouds.items():
    norm = np.linalg.norm(cloud, axis=1)
    lengths[d] = norm / np.sqrt(d)
    angles[d] = np.degrees(np.arccos((cloud[:3000] * cloud[3000:]).sum(axis=1) / (norm[:3000] * norm[3000:])))
    strangers = np.linalg.norm(cloud[:1] - cloud[1:1000], axis=1)
    gaps[d] = strangers.min() / strangers.max()
    print(f"{d:3} dimensions: lengths vary by {lengths[d].std() / lengths[d].mean():3.0%}, angles {angles[d].mean():.0f}° ± {angles[d].std():2.0f}°, "
          f"nearest / farthest {gaps[d]:.2f}")

# %%
fig, axes = plot.chart(1, 3, height=4.2)
for d, color in zip(sizes, plot.COLORS, strict=False):
    axes[0].hist(lengths[d], bins=100, range=(0, 2.5), density=True, histtype="stepfilled", alpha=0.75, color=color, label=f"{d}")
    axes[1].hist(angles[d], bins=90, range=(0, 180), density=True, histtype="stepfilled", alpha=0.75, color=color)
axes[2].bar([str(d) for d in sizes], [gaps[d] for d in sizes], color=plot.COLORS[:4])
axes[0].set(title="lengths, over √dimensions", xlabel="length", yticks=[])
axes[1].set(title="angles between pairs", xlabel="degrees", xticks=[0, 45, 90, 135, 180], yticks=[])
axes[2].set(title="nearest / farthest", xlabel="dimensions", ylim=(0, 1))
axes[0].legend(title="dimensions")
plot.show(fig, alt="With more dimensions lengths gather at one value, angles at 90 degrees, and the nearest neighbour is nearly as far as the farthest.")

# %% [markdown]
# In 512 dimensions all vectors are about equally long (they lie on a shell, and the middle is empty), any two are at right angles, and
# everybody is a stranger to everybody. So walk in Z along the shell (lesson 04); and there is room for many independent changes (lesson 05).
#
# And W? Take the **survey** of the library: 20,000 faces, stored as scores only; z and w come back from the seeds.

# %%
population = survey.load()
z_all, w_all = population.latents(faces)  # [20000, 512] each
for space, cloud in {"Z": z_all, "W": w_all}.items():
    variance = torch.linalg.eigvalsh(torch.cov(cloud.T.double())).flip(0)  # along the principal directions, largest first
    reached = torch.cumsum(variance, 0) / variance.sum()
    half, most = (int((reached < part).sum()) + 1 for part in (0.5, 0.9))
    print(f"{space}: half of the variance lies in {half} of 512 directions, 90 % in {most}")

# %% [markdown]
# In Z every direction is as good as another. W is a thin pancake: a handful of directions hold half of what sets faces apart.
#
# ### Beyond what was there
#
# Is a new face a copy of an old one? The training photos are not here; the 20,000 are. For six new seeds, take the one that is nearest in W.
#
# > **Predict:** will you see the same person, a sister, or a stranger?

# %%
seeds = [20_003, 20_007, 20_014, 20_030, 20_031, 20_019]
w_new = faces.mapping(normal(seeds, faces.z_dim))
far = torch.cdist(w_new, w_all)  # [6, 20000]
nearest = far.argmin(dim=1)
pairs = faces.preview(broadcast(torch.cat([w_new, w_all[nearest]]), 16))
identity = dvlatent.load("identity")
numbers, of_nearest = identity(pairs).split(6)  # [6, 128] each
one, other = torch.triu_indices(6, 6, 1)  # any two of the new
print(f"the nearest of 20,000 is {(far.min(dim=1).values / far.median(dim=1).values).mean():.1f} times as far as the middle one")
print(f"identity distance of a new face to its nearest {identity.distance(numbers, of_nearest).mean():.1f}, "
      f"of two new faces {identity.distance(numbers[one], numbers[other]).mean():.1f}")
fig = plot.labeled_grid(pairs, ["new", "nearest\nof 20,000"], [f"seed {seed}" for seed in seeds])
plot.show(fig, alt="Six new women, and below each the nearest of 20,000: a similar pose, mostly similar hair and light, another face. The first two could be sisters.")

# %% [markdown]
# **Check your guess.** Relatives rather than copies: a similar pose, hair and light. The identity network calls two pictures one person below 0.6; for some of these pairs it would, and your eye would not.

# %% [markdown]
# ## Is W better ordered than Z? First instrument: path length
#
# A well-ordered space changes evenly: no stretch of a path where the face suddenly becomes somebody else. **Perceptual path length**
# takes a tiny piece of a path, divides the perceptual distance of its two ends by the piece's length squared, and averages over many
# paths ([Karras et al. 2019](https://arxiv.org/abs/1812.04948), section 4.1). Small is good. By hand for four pairs; by the library for 30:

# %%
epsilon = 1e-4
z_pairs = normal(range(8), faces.z_dim)  # seeds 0, 1: the first pair; 2, 3: the second ...
z_here, z_there = (slerp(z_pairs[0::2], z_pairs[1::2], t) for t in (0.0, epsilon))
pictures = [faces.preview(broadcast(faces.mapping(z_end), 16)) for z_end in (z_here, z_there)]
by_hand = distance(*pictures).numpy() / epsilon**2
config = measure.PathConfig(pairs=30)
lengths_z = measure.path_lengths(faces, distance, "z", config, render=faces.preview)
lengths_w = measure.path_lengths(faces, distance, "w", config, render=faces.preview)
check("four path lengths by hand are the library's", by_hand, lengths_z[:4], tol=0.01)

# %% [markdown]
# 30 paths are few (the paper takes 100,000), so each number needs an interval. The **bootstrap** ([Efron 1979](https://doi.org/10.1214/aos/1176344552)) draws 30 out of the 30 again, with repetition, a
# thousand times: the interval holds 95 % of the means that come out.

# %%
rng = np.random.RandomState(0)
again = [measure.trimmed_mean(lengths_w[rng.randint(30, size=30)]) for _ in range(1000)]
ppl_w = measure.bootstrap(lengths_w, measure.trimmed_mean)
check("the bootstrap by hand is the library's", np.percentile(again, [2.5, 97.5]), [ppl_w.low, ppl_w.high])
ppl_z = measure.bootstrap(lengths_z, measure.trimmed_mean)
both = np.stack([lengths_z, lengths_w], axis=1)  # the same z in both spaces: compare pair by pair
ratio = measure.bootstrap(both, lambda pairs: measure.trimmed_mean(pairs[:, 0]) / measure.trimmed_mean(pairs[:, 1]))
for name, found in {"Z": ppl_z, "W": ppl_w}.items():
    print(f"path length in {name}: {20 * round(found.value / 20)}, 95 % interval {20 * round(found.low / 20)} to {20 * round(found.high / 20)}")
print(f"Z / W: {ratio.value:.1f}, interval {ratio.low:.1f} to {ratio.high:.1f}; longer in Z for {np.mean(lengths_z > lengths_w):.0%} of the pairs")

# %%
fig, axes = plot.chart(1, 2, height=4.6, gridspec_kw={"width_ratios": [3, 2]})
span = (min(lengths_w.min(), lengths_z.min()), max(lengths_w.max(), lengths_z.max()))
axes[0].plot(span, span, "--", color=plot.QUIET, lw=1.5)
axes[0].scatter(lengths_w, lengths_z, s=45, color=plot.COLORS[3], alpha=0.8)
axes[0].set(xscale="log", yscale="log", xlabel="path length in W", ylabel="path length in Z", title="each dot is one pair of faces")
axes[0].text(0.04, 0.93, "longer in Z", transform=axes[0].transAxes, size=14)
axes[0].text(0.72, 0.06, "longer in W", transform=axes[0].transAxes, size=14)
for i, (found, color) in enumerate([(ppl_z, plot.COLORS[0]), (ppl_w, plot.COLORS[1])]):
    axes[1].bar(i, found.value, color=color, width=0.6)
    axes[1].errorbar(i, found.value, [[found.value - found.low], [found.high - found.value]], color=plot.INK, capsize=8, lw=2)
axes[1].set(title="mean, 95 % interval", xticks=[0, 1], xticklabels=["Z", "W"], xlim=(-0.6, 1.6))
plot.show(fig, alt="Left, path lengths of 30 pairs: nearly all dots lie above the diagonal, longer in Z. Right, the mean in Z is far above that in W.")

# %% [markdown]
# ## Second instrument: linear separability
#
# If a space is well ordered, faces that are perceived as male and as female should lie on two sides of *one flat cut*. The second
# instrument fits such a plane, and asks how much is still unknown about a face once you know its side (section 4.2). We take the first
# 1,000 of the survey. Check four of them:

# %%
population, z_all, w_all = population.take(1000), z_all[:1000], w_all[:1000]
fresh = attributes(faces.preview(broadcast(w_all[84:88], 16)))
check("four stored scores, drawn and scored again", fresh, population.scores[84:88, :2], tol=0.01)
age, male = population.column("age").numpy(), population.column("male").numpy()
print(f"{len(age)} faces: {np.mean(male > 0.5):.0%} perceived male, {np.mean(age > 40):.0%} perceived over 40")

# %% [markdown]
# A plane by hand: give every face +1 or -1, and find by least squares the weights that say it best (a small ridge holds them back). Half
# of the faces are for fitting.
#
# > **Predict:** 512 weights, 500 faces to fit. In which space will the plane be right for more faces *that it was fitted to*? And for new
# > faces?

# %%
label, half = male > 0.5, len(male) // 2
for space, cloud in {"Z": z_all, "W": w_all}.items():
    x, y = cloud[:half].double().numpy(), np.where(label[:half], 1.0, -1.0)
    center = x.mean(axis=0)
    ridge = 0.01 * half * x.var(axis=0).mean() * np.eye(512)
    plane = np.linalg.solve((x - center).T @ (x - center) + ridge, (x - center).T @ (y - y.mean()))
    side = (cloud.double().numpy() - center) @ plane + y.mean() > 0
    check(f"the plane in {space} by hand is the library's", plane, measure.fit_plane(x, label[:half], ridge=0.01)[0])
    print(f"{space}: right for {np.mean(side[:half] == label[:half]):.0%} of the fitted faces, {np.mean(side[half:] == label[half:]):.0%} of the new ones")

# %% [markdown]
# **Check your guess.** With more weights than faces, a plane fits almost anything: the first column tells nothing. So the library judges every face by a plane that has not seen it. Two habits from the paper: keep the half of the faces about which the predictor is surest, and
# report the **conditional entropy**, the bits missing about the label once the side is known (0: nothing, 1: everything).

# %%
def bits(p):
    return 0.0 if p in (0, 1) else -p * np.log2(p) - (1 - p) * np.log2(1 - p)


missing = side.mean() * bits(label[side].mean()) + (1 - side.mean()) * bits(label[~side].mean())
check("conditional entropy by hand is the library's", missing, measure.conditional_entropy(side, label))

# %%
questions = {"perceived male": (male > 0.5, abs(male - 0.5)), "perceived over 40": (age > 40, abs(age - 40))}
results = {}
for name, (label, confidence) in questions.items():
    kept = measure.surest(confidence)
    print(f"{name}: always giving the more frequent answer is right for {max(label[kept].mean(), 1 - label[kept].mean()):.0%}")
    for space, cloud in {"Z": z_all, "W": w_all}.items():
        found = results[name, space] = measure.separability(cloud[kept], label[kept])
        right, lost = found.accuracy, found.entropy
        print(f"    in {space}: {right.value:3.0%} right ({right.low:.0%} to {right.high:.0%}), "
              f"{lost.value:.2f} bits missing ({lost.low:.2f} to {lost.high:.2f})")

# %% [markdown]
# W wins in both questions. In Z, "over 40" is hardly better than always giving the more frequent answer. (W uses few directions, so few faces find its
# plane. But the paper had 100,000, and W won there too.)
#
# ## Beside the published numbers

# %%
published = {"StyleGAN": (666, 197, 165, 3.74), "StyleGAN2": (349, 129, 154, 4.27)}  # path length Z, W; separability Z, W
for name, (path_z, path_w, score_z, score_w) in published.items():
    per_z, per_w = np.log2(score_z) / 40, np.log2(score_w) / 40
    print(f"{name:12} path length {path_z} in Z, {path_w} in W: {path_z / path_w:.1f} times; missing {per_z:.2f} and {per_w:.2f} bits per attribute")
ours = [np.mean([results[name, space].entropy.value for name in questions]) for space in "ZW"]
print(f"this lesson  path length {20 * round(ppl_z.value / 20)} in Z, {20 * round(ppl_w.value / 20)} in W: {ratio.value:.1f} times; missing {ours[0]:.2f} and {ours[1]:.2f} bits per attribute")

# %% [markdown]
# Compare Z with W within a line, never a line with another: 100,000 paths, 40 attributes and another feature network are another ruler.
#
# ## Exercises
#
# Replace `...`, run the cell.

# %% [markdown]
# ### Exercise 1: the opposite face
# ψ = 0 is the average face. What lies on its *other* side, as far away as seed 85? Write the w of the opposite face, [1, 512], without
# calling `truncate`.

# %% tags=["exercise"]
w = faces.mapping(normal(85, faces.z_dim))
opposite = ...  # your line
check(
    "exercise 1",
    opposite,
    lambda v: torch.allclose(v, 2 * faces.w_mean - w, atol=1e-4) or "go from the average by minus the way that leads to w: ψ = -1",
)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# opposite = faces.w_mean - (w - faces.w_mean)
# ```
#
# Look at it: `plot.show(plot.strip(faces.preview(broadcast(opposite, 16))), alt="The opposite of seed 85")`. Opposite in everything that
# W knows at once.
# </details>

# %% [markdown]
# ### Exercise 2: three parents
# Build the ws [1, 16, 512] of a face with the coarse styles of `a`, the middle styles of `b` and the fine styles of `c`.

# %% tags=["exercise"]
a, b, c = broadcast(faces.mapping(normal([19, 75, 82], faces.z_dim)), 16).split(1)
child = ...  # your line
check("exercise 2", child, torch.cat([a[:, :5], b[:, 5:9], c[:, 9:]], dim=1), hint="layers 0 to 4, 5 to 8, 9 to 15; mix can be used twice")

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# child = mix(mix(a, b, "middle"), c, "fine")
# ```
#
# What is not replaced stays: coarse is still `a`'s.
# </details>

# %% [markdown]
# ### Exercise 3: a styled convolution with demodulation
# Write StyleGAN2's styled convolution for several pictures at once, each with its own style: scale the filters by the picture's style, divide every filter by its length, convolve.


# %% tags=["exercise"]
def styled_conv(x, weight, style):
    """[batch, in, h, w], [out, in, 3, 3], [batch, in] -> [batch, out, h, w]."""
    ...  # your lines


def tested(conv):
    x, weight, style = (torch.from_numpy(np.random.RandomState(3).randn(*shape)).float() for shape in [(2, 5, 6, 6), (4, 5, 3, 3), (2, 5)])
    columns = torch.nn.functional.unfold(x * style[:, :, None, None], 3, padding=1).view(2, 5, 9, 36)
    length = torch.einsum("oik,bi->bo", weight.flatten(2) ** 2, style**2).sqrt()  # [2, 4]
    right = torch.einsum("oik,bikp->bop", weight.flatten(2), columns) / length[:, :, None]
    return torch.allclose(conv(x, weight, style), right.view(2, 4, 6, 6), atol=1e-4) or "the length is over in, and both sides of the filter"


check("exercise 3", styled_conv, tested)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def styled_conv(x, weight, style):
#     pictures = []
#     for picture, numbers in zip(x, style):
#         filters = weight * numbers[None, :, None, None]
#         filters = filters / filters.square().sum(dim=(1, 2, 3), keepdim=True).sqrt()
#         pictures.append(torch.nn.functional.conv2d(picture[None], filters, padding=1))
#     return torch.cat(pictures)
# ```
#
# Ten times the style gives the same picture: strength is gone, only the mixture of channels is left.
# </details>

# %% [markdown]
# ### An open question
# Nobody told the network what is coarse and what is fine. Which other division of a face would you like to have, and what would a network need so that one learns it?

# %% [markdown]
# ## The answer
#
# **Question:** 512 numbers name a face. Where in the picture do they end up, and what does the network do to them first?
#
# **Answer:** everywhere, as a style for each of 16 layers: coarse ones set pose, shape and hair, middle ones the features, fine ones the
# colours; single hairs are left to (frozen) noise. First, though, eight layers turn the random vectors of Z into coordinates, W: fewer
# directions that matter, paths that in Z are 2.6 times as long (1.8 to 3.8, 30 paths), and planes that divide faces where Z's hardly do.
# Every edit from here on is made in W.
#
# ## What next
#
# [04 · What lies between two faces?](04_averaging_and_interpolation.ipynb) walks through this space; [05 · Where is
# age?](05_finding_directions.ipynb) turns the plane that you fitted into a direction.
