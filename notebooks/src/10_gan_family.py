# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 10 · What did each GAN add?
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/dvlatent/blob/main/notebooks/10_gan_family.ipynb)
#
# **Question:** the video names CycleGAN, StackGAN, BigGAN and ProgressiveGAN, and stops at StyleGAN. What did each of them add, and is StyleGAN's space really better ordered?
#
# **You will:**
# - put eight networks of seven years in one picture, seven of them small enough to be trained on one processor core,
# - write the one idea of each by hand, turn its own knob, and take one number home,
# - measure the space of a StyleGAN2 beside that of an older network that saw the same faces, with the same instruments.
#
# **Before this:** [01 · A game of two](01_gan_basics.ipynb) and [03 · Sampling faces](03_stylegan_sampling.ipynb)
#
# **Time:** 40 s of computing on two CPU cores, 55 minutes of yours
#
# **Explains:** the list of names in the video, and the sentence that StyleGAN builds a far better ordered space

# %% tags=["setup"]
from importlib.util import find_spec

if find_spec("dvlatent") is None:  # on Colab: the library, then the weights; elsewhere this does nothing
    get_ipython().run_line_magic("pip", 'install -q "dvlatent @ git+https://github.com/OWNER/dvlatent"')
    get_ipython().system("dvlatent assets")

# %%
import numpy as np
import torch
from torch.nn import functional as F

import dvlatent
from dvlatent import broadcast, checkpoint, images, normal, truncate
from dvlatent.distillation.cyclegan import CycleGAN, CycleGANConfig, train_cyclegan
from dvlatent.gan import biggan, data, progressive, stackgan
from dvlatent.gan.points import PointDiscriminator, PointGenerator
from dvlatent.lessons import plot
from dvlatent.lessons.teach import check
from dvlatent.metrics import latent as measure
from dvlatent.metrics.features import kid, picture_features

# %%
names = ("digits", "dcgan", "stackgan", "progressive", "age-cyclegan", "biggan", "stylegan2-64", "faces")
digits, dcgan, stack, grower, cycle, big, style, faces = (dvlatent.load(name) for name in names)
attributes, classifier, distance = (dvlatent.load(name) for name in ("attributes", "digit-classifier", "perceptual"))

# %% [markdown]
# ## Seven years in one picture
#
# Every row below starts from random numbers; only the CycleGAN starts from a picture, the face in the last row. The last row is lesson 03's generator, a StyleGAN2 that was trained on 70,000 photos on eight graphics cards and then distilled.
# All others are small networks, made for this course on one processor core, in minutes, or two hours for the StyleGAN2: sketches, not portraits. Five of them learned by **the same loop**, `gan.train` of lesson 01, and four
# from **the same faces**, which the last row's generator drew. What differs is how they are built.


# %%
def pictures_of(generator, seeds, psi=0.7):
    """Pictures of a generator with a mapping network, each w pulled toward the mean."""
    w = truncate(generator.mapping(normal(seeds, generator.z_dim)), toward=generator.w_mean, psi=psi)
    return generator.synthesis(broadcast(w, generator.num_layers))


z, words = normal(range(8), 64), stackgan.tokens(["young woman smiling looks ahead", "old man smiling looks ahead"] * 4)
with torch.no_grad():
    ws = broadcast(truncate(faces.mapping(normal(range(8), 512)), toward=faces.w_mean, psi=0.7), faces.num_layers)
    young = faces.preview(ws)  # [8, 3, 256, 256]
    small = dcgan(normal(range(8), 100)), stack(z, words), grower(z)
    rows = [digits(z), *small, cycle(young, 2.0), big(z, torch.arange(8)), pictures_of(style, range(8)), young]

# %%
years = ["2014 GAN", "2015 DCGAN", "2016 StackGAN", "2017 Progressive", "2017 CycleGAN", "2018 BigGAN", "2020 StyleGAN2,\nsmall", "2020 StyleGAN2,\nlesson 03's"]
sheet = torch.cat([images.resize(one.expand(-1, 3, -1, -1), 64) for one in rows])
fig = plot.labeled_grid(sheet, rows=years, columns=[f"seed {seed}" for seed in range(8)], caption="All but the last row were trained for this course, on one core: look at what each is about.")
plot.show(fig, alt="Eight rows of eight. Digits; faces by the DCGAN, some torn at the edges; faces by the StackGAN in coloured fringes; small blurred faces; sharp faces with a tint by the CycleGAN; digits; clear faces by the small StyleGAN2, two with a spoiled background; the sharp faces of lesson 03.")

# %% [markdown]
# A name of the video is missing: Gandalf. That one is a joke.[^1] The others are real, and each answered one question that the years before had left open.
#
# | year | network | question | answer |
# |---|---|---|---|
# | 2014 | GAN | can a network learn to draw without being told how? | let a second one judge it |
# | 2015 | DCGAN | and with convolutions? | strides, batch norm, no hidden linear layer |
# | 2016 | StackGAN | can words say what is drawn? | a cloud around the sentence; first small, then large |
# | 2017 | CycleGAN | can it learn from two piles instead of pairs? | there and back must be home again |
# | 2017 | ProgressiveGAN | why do large pictures fail? | begin with 4 pixels, grow |
# | 2018 | BigGAN | a thousand kinds in one network? | tell every layer the class; trade variety for quality |
# | 2019 | StyleGAN | what do the numbers mean? | a mapping network, and a style for every layer |
#
# [^1]: Nobody in the family has that name, but the acronym was too good to leave alone: since 2020 there is a *GANDALF* that reads brain scans (Shin et al. 2020).

# %% [markdown]
# ## ProgressiveGAN: begin small
#
# A picture of 32 x 32 has three thousand numbers, one of 4 x 4 has 48. **Growing** (Karras et al. 2018) trains the smallest picture first and adds the next size when it is learned. A new layer would shock the
# others, so it **fades in**: at level 2.25 the picture is three quarters the old one, doubled, and one quarter the new one. By hand:

# %%
grower.level.fill_(2.25)  # sizes 4, 8, 16 are there; 32 has faded in to a quarter
with torch.no_grad():
    x = grower.first(grower.mapping(z)[:, :, None, None])
    x = progressive.pixel_norm(F.leaky_relu(x, 0.2)).view(len(z), -1, 4, 4)
    for block, size in zip(grower.blocks, (4, 8, 16, 32), strict=True):
        before, x = x, block(x if size == 4 else F.interpolate(x, scale_factor=2))
    old, new = grower.to_image[2](before), grower.to_image[3](x)  # 16 and 32 pixels
    mine = torch.tanh(0.75 * F.interpolate(old, scale_factor=2) + 0.25 * new)
    check("a fade by hand is the network's", mine, grower(z))
x = torch.randn(1, 128, 8, 8)
check("pixel norm by hand", x / x.square().mean(1, keepdim=True).sqrt(), progressive.pixel_norm(x))
grower.level.fill_(3.0)

# %% [markdown]
# > **Predict:** two equal networks get equal time on one core. One grows; the other draws 32 pixels from its first step. Which one has the better faces after a fifth of the time, and which at the end?
#
# The recipe trained both and kept 36 faces of each every 150 steps. How far are they from real ones? The **kernel distance** (KID, small is good) is fair for so few.

# %%
sheets, about = checkpoint.load(dvlatent.zoo.WEIGHTS / "progressive-growth.safetensors", "growth")
real = picture_features(images.resize(dvlatent.load("faces-small")[:200], 32).split(20), distance, 64)
race = {}
for name, rows in about["curves"].items():
    clouds = [picture_features(images.from_uint8(sheet.numpy()).split(18), distance, 64) for sheet in sheets[name]]
    race[name] = [(seconds, 1e6 * kid(real, cloud, blocks=6).value) for (seconds, seen), cloud in zip(rows, clouds, strict=True)]
    print(f"{name:8}", "  ".join(f"{seconds} s: {value:.0f}" for seconds, value in race[name]))

# %%
fig, ax = plot.chart(height=4)
for name, points in race.items():
    ax.plot(*zip(*points, strict=True), "o-", label=name.replace("_", " "))
ax.set(title="Equal networks, equal time", xlabel="seconds of one core", ylabel="kernel distance x 10⁶", ylim=(0, None))
ax.legend()
plot.show(fig, alt="Two falling curves. The growing network begins at more than twice the kernel distance of the other one; they meet after some 220 seconds and end together near 3,000.")

# %%
chosen = {"growing": (2, 4, 7, 13), "at_once": (0, 2, 5, 11)}  # about the same seconds
shown = torch.cat([images.from_uint8(sheets[name][at, :8].numpy()) for name, which in chosen.items() for at in which])
rows = [f"{name.replace('_', ' ')}\n{about['curves'][name][at][0]} s" for name, which in chosen.items() for at in which]
fig = plot.labeled_grid(images.resize(shown, 64), rows=rows, columns=[f"seed {seed}" for seed in range(8)], caption="Growing: large squares that are already a head, the shock of the new size at 79 s, then faces. At once: noise that clears up.")
plot.show(fig, alt="Rows of eight faces. Growing: at 35 seconds large squares, light in the middle; at 79 seconds greenish noise; then smooth heads, at 312 seconds with eyes and mouths. At once: heads in noise at 28 seconds, rough faces at 85 that slowly clear up.")

# %% [markdown]
# **Check your guess.** After a fifth of the time, the one that does not grow is far ahead: as long as the other draws 8 or 16 pixels, it cannot be near to 32. After some 220 seconds they meet, and at the end growing is ahead by so little
# that 36 faces cannot decide it. Growing is an idea for *large* pictures: at 1024 pixels the paper measured trainings two to six times shorter, and without it they broke; here small pictures save little, and 32 pixels do not break.
# (StyleGAN2 gave growing up again.) A small experiment does not prove a large one wrong, nor right.
#
# ## StackGAN: a sentence, then a sketch, then a picture
#
# StackGAN (Zhang et al. 2017) reads a **caption**. Ours were written by a program from the scores of lesson 05's survey: *old man smiling looks left*. Each word is a learned vector, a caption the mean of its words
# (the paper uses a trained text network). There are few captions and many faces for each, so it makes a **cloud** of each caption, *conditioning augmentation*: a mean and a deviation for every number, and a draw from it. By hand:

# %%
said = stackgan.tokens(["old man serious looks ahead"])
reader = stack.caption
with torch.no_grad():
    mean, log_variance = reader.cloud(reader.words.weight[said[0]].mean(0)).chunk(2)  # the mean of five words, then one linear layer
    kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean()  # how far the cloud is from a standard normal one
    draw = mean + log_variance.div(2).exp() * torch.randn(32, generator=torch.Generator().manual_seed(0))  # what training saw
    check("the center of the cloud by hand", mean, reader(said)[0])
    torch.manual_seed(0)
    check("a draw from it by hand", draw, reader.train()(said)[0])
check("its KL distance by hand", kl, reader.eval().kl)

# %% [markdown]
# **Stage I** draws 16 pixels: pose and colours. **Stage II** reads the caption again and says what to add at 64 pixels.
#
# > **Predict:** keep z, and change one word of five: *young* to *old*. Does the person stay, and by how many years does a reader of ages see the difference?

# %%
captions = ["young woman serious looks ahead", "old woman serious looks ahead", "old man serious looks ahead", "old man smiling looks left"]
with torch.no_grad():
    said = stackgan.tokens([one for one in captions for _ in range(4)])
    small = stack.stage_one(z[:4].repeat(4, 1), said)
    both = torch.stack([images.resize(small, 64), stack.redraw(small, said)], dim=1).flatten(0, 1)
titles = [f"{stage}, seed {seed}" for seed in range(4) for stage in ("I", "II")]
fig = plot.labeled_grid(both, rows=[one.replace(" serious", "\nserious").replace(" smiling", "\nsmiling") for one in captions], columns=titles, caption="From left to right in pairs: the sketch of 16 pixels, and what stage II makes of it. From above, one thing in the caption changes at a time; in the last row, two.")
plot.show(fig, alt="Four captions below each other, four seeds in pairs of sketch and redrawing. With old, faces get darker and get lines; with man, hair gets short; with looks left, heads turn. The redrawn faces have eyes, mouths and some glasses, and fringes of colour.")

# %%
many = normal(range(100), 64)
with torch.no_grad():
    for one in captions:
        age, male = attributes(stack(many, stackgan.tokens([one] * 100))).T
        print(f"{one:34} perceived age {age.mean():3.0f}, perceived male {100 * (male > 0.5).float().mean():3.0f} %")
scores = checkpoint.load(dvlatent.zoo.WEIGHTS / "stackgan.safetensors", "stackgan")[1]["scores"]
print("Fréchet distance: stage I enlarged", scores["16_px"]["frechet"], "and stage II", scores["64_px"]["frechet"])

# %% [markdown]
# **Check your guess.** Hair and pose stay, and the face gets older: by 15 years in the mean of a hundred women. Real faces of these two words are 34 years apart for the same reader (16 and 50), so ours has learned half of the word.
# It brings something along, too: with *old*, the reader takes more of the women for men (36 instead of 10 %). *Man* for *woman* is obeyed nearly always. Stage I alone does much less: wrinkles need more than 16 pixels.
#
# Why does it obey? Its discriminator was shown three kinds of pairs: real with its own caption, drawn with a caption, and **real with a wrong caption**, which counts as false. A beautiful face is not enough: it must be the one that was ordered.
#
# ## BigGAN: many kinds, and a dial
#
# BigGAN (Brock et al. 2019) drew a thousand kinds of things with one network. The class enters everywhere: one shared embedding and a piece of z of its own go to every block, where they set scale and shift of a **conditional batch norm**. Ours draws the ten digits. By hand:

# %%
norm, x = big.blocks[0].norms[0], torch.randn(10, 48, 7, 7, generator=torch.Generator().manual_seed(0))
with torch.no_grad():
    pieces = normal(range(10), 64).tensor_split(3, dim=1)  # one piece of z for the first layer and one for each block
    condition = torch.cat([big.shared.weight, pieces[1]], dim=1)  # [10 classes, 32 + 21]
    scale, shift = condition @ norm.scale.weight.T, condition @ norm.shift.weight.T
    usual = (x - norm.norm.running_mean[:, None, None]) / (norm.norm.running_var[:, None, None] + 1e-5).sqrt()
    check("conditional batch norm by hand", usual * (1 + scale[:, :, None, None]) + shift[:, :, None, None], norm(x, condition))

# %% [markdown]
# Its dial is the **truncation trick**: draw z from a bell whose ends are cut off. Numbers beyond the threshold are drawn again.
#
# > **Predict:** with a small threshold, are the digits better or worse to read? What is the price?

# %%
labels, thresholds = torch.arange(300) % 10, (0.1, 0.3, 0.6, 1.0, 1.5, 2.0, 4.0)
fidelity, variety, shown = [], [], []
with torch.no_grad():
    for threshold in thresholds:
        drawn = big(biggan.truncated_normal(300, 64, threshold, torch.Generator().manual_seed(0)), labels)
        fidelity.append(classifier(drawn)[torch.arange(300), labels].mean().item())  # how sure the classifier is of the digit asked for
        features = classifier.features(drawn).view(30, 10, -1)
        variety.append(features.std(0).mean().item())  # how much thirty drawings of one digit differ
        shown.append(drawn[[3, 13, 23, 33, 8, 18, 28, 38]])
for numbers in zip(thresholds, fidelity, np.array(variety) / variety[-1], strict=True):
    print("threshold {:.1f}: sure of the digit {:.4f}, variety {:.2f}".format(*numbers))

# %%
sheet = torch.cat([shown[at] for at in (0, 2, 6)]).expand(-1, 3, -1, -1)
fig = plot.labeled_grid(images.resize(sheet, 56), rows=[f"threshold {thresholds[at]}" for at in (0, 2, 6)], columns=4 * ["3"] + 4 * ["8"], caption="Small threshold: one three and one eight, over and over. Large: strokes differ a little, and some fray.")
plot.show(fig, alt="Three rows of four threes and four eights. In the first two rows all threes and all eights are alike; in the last row the ends and bows of their strokes differ a little, and two eights have frayed edges.")

# %%
fig, ax = plot.chart(height=4)
ax.plot(variety, fidelity, "o-")
for threshold, x, y in zip(thresholds, variety, fidelity, strict=True):
    ax.annotate(f"{threshold}", (x, y), xytext=(0, -18), textcoords="offset points", ha="center")
ax.set(title="The truncation curve: every threshold is a choice", xlabel="variety (deviation of features)", ylabel="sure of the digit")
plot.show(fig, alt="From threshold 0.1 to 1.0 the curve is flat at 0.999; then it falls, to 0.9965 at 4.0. Variety grows fifteenfold from end to end.")

# %% [markdown]
# **Check your guess.** A small threshold is safe, and the price is variety: at 0.1 all threes are one three. Up to 1 the classifier loses nothing, beyond it the ends of the bell spoil a digit here and there. The curve is the honest
# way to show a generator, since every point of it is a choice that somebody made before showing samples. Ours falls by very little: this network learned nearly one way to write each digit (lesson 01's mode collapse), so even the ends of
# the bell change little. And it was measured by a classifier that knows ten digits; it does not see when a clear digit is an ugly one.
#
# ## CycleGAN: there and back
#
# Lesson 07 aged faces from pairs. Without pairs there are two piles: A here, B there. A network that turns A into *some* B has kept nothing of what it was given. **CycleGAN** (Zhu et al. 2017) adds the way back:
# who goes there and back must be home again. The idea in the plane: pile A is the ring of lesson 01, pile B is two rows of points.

# %%
ring = data.ring(2000)
places = torch.tensor([[x, y] for y in (-0.8, 0.8) for x in (-2.4, -0.8, 0.8, 2.4)])
rng = torch.Generator().manual_seed(1)
rows = places[torch.randint(8, (2000,), generator=rng)] + 0.1 * torch.randn(2000, 2, generator=rng)


def step(adam, loss):
    adam.zero_grad()
    loss.backward()
    adam.step()


# %%
def makers_loss(there, back, real_a, real_b, x, y, cycle):
    """What is drawn shall look real to the discriminators (least squares), and who comes back shall be who went."""
    drawn_y, drawn_x = there(x), back(y)
    adversarial = (real_b(drawn_y) - 1).square().mean() + (real_a(drawn_x) - 1).square().mean()
    home = (back(drawn_y) - x).abs().mean() + (there(drawn_x) - y).abs().mean()
    return adversarial + cycle * home


# %%
def trained(cycle, steps=700):
    """Two generators of the plane, there and back, trained against two discriminators."""
    torch.manual_seed(0)
    there, back, real_a, real_b = PointGenerator(), PointGenerator(), PointDiscriminator(), PointDiscriminator()
    pairs = (there, back), (real_a, real_b)
    adams = [torch.optim.Adam([*one.parameters(), *other.parameters()], 2e-3, betas=(0.5, 0.99)) for one, other in pairs]
    for _ in range(steps):
        x, y = (pile[torch.randint(2000, (256,))] for pile in (ring, rows))
        step(adams[0], makers_loss(there, back, real_a, real_b, x, y, cycle))
        seen = (real_a, x, back(y)), (real_b, y, there(x))
        step(adams[1], sum((real(true) - 1).square().mean() + real(drawn.detach()).square().mean() for real, true, drawn in seen))
    return there.requires_grad_(False), back.requires_grad_(False)


# %% [markdown]
# > **Predict:** both networks learn to draw two rows of points from a ring. How many points come home, without the way back in the loss, and with it?

# %%
colors = data.ring_centers().sub(ring[:, None]).norm(dim=2).argmin(1)  # which of the eight places a point comes from
fig, axes = plot.chart(columns=3, height=4.4)
axes[0].scatter(*ring.T, c=colors, cmap="tab10", s=6)
axes[0].set(title="pile A, eight colors")
for ax, weight in zip(axes[1:], (0, 10), strict=True):
    there, back = trained(weight)
    home = (back(there(ring)) - ring).norm(dim=1) < 0.3
    print(f"weight of the way back {weight:2}: {100 * home.float().mean():3.0f} % come home")
    ax.scatter(*rows[:300].T, c="lightgray", s=40)
    ax.scatter(*there(ring).T, c=colors, cmap="tab10", s=6)
    ax.set(title="without the way back" if weight == 0 else "with it", xlim=(-4, 4), ylim=(-4, 4))
plot.show(fig, alt="Left, eight coloured heaps on a ring. Middle, without the way back: eight heaps on two rows, in colours. Right, with it: the same rows, but the brown heap lies outside, at the right, and one place stays empty.")

# %% [markdown]
# **Check your guess.** A fifth, against all. Both piles look right in both pictures: a discriminator sees the pile, not who is who. Only the way home ties each point to its picture. It has a price: in the right picture one heap did not find its
# place. And it has a limit: it asks that nothing is lost, not that the translation is the one you meant. Lesson 07 saw the CycleGAN make nobody older.
#
# The same sum, on pictures, in the library:

# %%
class Pile(list):
    """Pictures of one kind, as the library takes them."""

    def batch(self, which):
        return torch.cat([self[one] for one in which])


# %%
a, b = (Pile([(one + one.flip(3)) / 2]) for one in images.resize(young[:2], 64).split(1))  # equal to their mirror images: the library mirrors at random
torch.manual_seed(0)
net = CycleGAN(width=4, blocks=1, discriminator_width=4)
with torch.no_grad():
    home = (net.back(net.there(a[0])) - a[0]).abs().mean() + (net.there(net.back(b[0])) - b[0]).abs().mean()
one_step = next(train_cyclegan(net, a, b, CycleGANConfig(steps=1)))
check("the way home by hand is the library's", one_step.losses["cycle"], home)

# %% [markdown]
# ## StyleGAN: what do the numbers mean?
#
# Lesson 03 took one layer of a StyleGAN2 apart. Ours here has the same parts (`dvlatent.stylegan.stylegan2`, one file) and was trained for this lesson: 64 pixels, 264,000 pictures seen. Its knob is **style mixing**:
# each layer has a w of its own, so the first layers may come from one face and the rest from another.

# %%
with torch.no_grad():
    ws = broadcast(truncate(style.mapping(normal(range(6), style.z_dim)), toward=style.w_mean, psi=0.7), style.num_layers)
    base, other = ws[:3], ws[3:]
    mixed = other[None].repeat(3, 1, 1, 1)  # [base, other, layer, w]
    mixed[:, :, :4] = base[:, None, :4]  # coarse styles: the first four of ten layers, 4 and 8 pixels
    check("by hand it is dvlatent.mix", mixed[0, 1], dvlatent.mix(base[:1], other[1:2], range(4, 10))[0])
    sheet, six = (images.resize(style.synthesis(one), 112) for one in (mixed.flatten(0, 1), ws))
fig = plot.labeled_grid(sheet, rows=six[:3], columns=six[3:], corner="rest →\ncoarse ↓", caption="Pose, head and hair come from the left, colours and background from above.")
plot.show(fig, alt="Three faces at the left and three above; each row keeps the pose and the hair of its left face, each column the skin colour and the background of its upper one. The glasses of the first face come through in two of three.")

# %% [markdown]
# And the sentence of the video: StyleGAN "builds a far better ordered space". Better than what? Two comparisons. One is its own Z, before the mapping network. The other is the Z of the DCGAN, which has no mapping
# network, and saw as many pictures of the same faces. The instruments are lesson 03's. **Path length** at the ends: how far the picture jumps in the smallest step, in units of how far two strangers of the
# same network are apart (an arc from one to the other that never hurries has about 1). **Separability**: can a plane part perceived women from men, by the same reader?
#
# > **Predict:** which of the three spaces has the straightest paths, and in which do planes work best?

# %%
def straightness(generator, space, pairs=150):
    """Path length at the ends, in units of how far two strangers of this network are apart."""
    lengths = measure.path_lengths(generator, distance, space, measure.PathConfig(pairs=pairs, batch=10))
    strangers = pictures_of(generator, range(100), psi=1.0)
    return lengths / distance(strangers[0::2], strangers[1::2]).mean().item()


# %%
spaces = {"DCGAN, Z": (dcgan, "z"), "StyleGAN2, Z": (style, "z"), "StyleGAN2, W": (style, "w")}
with torch.no_grad():
    lengths = {name: straightness(*one) for name, one in spaces.items()}
for name, values in lengths.items():
    found = measure.bootstrap(values, measure.trimmed_mean)
    print(f"{name:12} path length {found.value:5.2f} strangers ({found.low:.2f} to {found.high:.2f})")
both = np.stack([lengths["StyleGAN2, W"], lengths["StyleGAN2, Z"]], axis=1)
ratio = measure.bootstrap(both, lambda pair: measure.trimmed_mean(pair[:, 0]) / measure.trimmed_mean(pair[:, 1]))
print(f"W / Z of the same network: {ratio.value:.2f}, 95 % interval {ratio.low:.2f} to {ratio.high:.2f}")

# %%
def planes(generator, space, count=600):
    """Is a plane between perceived women and men right for faces that it has not seen? The reader is sure of the half that is kept."""
    z = normal(range(count), generator.z_dim)
    with torch.no_grad():
        male = torch.cat([attributes(pictures_of(generator, part.tolist(), psi=1.0))[:, 1] for part in torch.arange(count).split(50)]).numpy()
        cloud = z if space == "z" else generator.mapping(z)
    kept = measure.surest(abs(male - 0.5))
    return measure.separability(cloud[kept], male[kept] > 0.5), max((male[kept] > 0.5).mean(), (male[kept] <= 0.5).mean())


for name, one in spaces.items():
    found, often = planes(*one)
    print(f"{name:12} right for {found.accuracy.value:.0%} ({found.accuracy.low:.0%} to {found.accuracy.high:.0%}) of new faces; always one answer: {often:.0%}")

# %% [markdown]
# **Check your guess.** Inside its own network, W wins clearly: a small step moves the picture a third as much as in Z, and planes are right for nearly all new faces. Z must be a ball, because we draw it so; faces are no ball. The
# mapping network bends one into the other, and then the rest has less to bend.
#
# Against the older network the answer is split. Planes work a little better in W. But the paths of the DCGAN are *shorter* than those of W: the old network changes slowly all the way. It also draws less well (Fréchet
# distance below), and who draws less has less to change. "Better ordered" needs its "than what": than its own Z, surely; than every older network, not by this number. The paper compared networks that draw nearly equally well.

# %%
for name in ("dcgan", "stylegan2-64"):
    scores = checkpoint.load(dvlatent.zoo.WEIGHTS / f"{name}.safetensors", name.removesuffix("-64"))[1]["scores"]
    print(f"{name:13} Fréchet distance {scores['frechet']:.3f} after {scores['images_seen']:,} pictures; real faces against real ones {scores['real_against_real']:.3f}")

# %% [markdown]
# ## Exercises
#
# Replace `...`, run the cell, read the hint.

# %% [markdown]
# ### Exercise 1: how grown is it?
# A ProgressiveGAN stands at level 1.75 (level 0 is 4 pixels). How many pixels a side has its picture, and which fraction of it is the new size? Write both as a pair.

# %% tags=["exercise"]
side_and_fraction = ...  # a pair, such as (4, 1.0)
check("exercise 1", side_and_fraction, (16, 0.75), hint="the next whole level is on; 4 << level is its side")

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# whole, fraction = progressive.whole_and_fade(torch.tensor(1.75))
# side_and_fraction = 4 << whole, fraction
# ```
#
# Level 2 is fading in: 16 pixels, three quarters of the way.
# </details>

# %% [markdown]
# ### Exercise 2: a bell without ends
# Write the truncation trick: `count` rows of `dim` normal numbers, of which none is beyond plus or minus `threshold`. Cutting numbers off *at* the threshold (`clamp`) heaps them up there; draw the far ones again.

# %% tags=["exercise"]
def truncated(count, dim, threshold):
    ...


check("exercise 2", truncated, lambda f: bool(f(500, 64, 0.5).abs().max() <= 0.5) and abs(f(500, 64, 0.5).std().item() - 0.283) < 0.01)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def truncated(count, dim, threshold):
#     z = torch.randn(count, dim)
#     while (far := z.abs() > threshold).any():
#         z[far] = torch.randn(int(far.sum()))
#     return z
# ```
#
# With `clamp` the deviation would be 0.41 instead of 0.28: most numbers would sit exactly on the threshold.
# </details>

# %% [markdown]
# ### Exercise 3: what growing saves
# `about["curves"]` has rows of seconds and pictures seen, for `growing` and `at_once`. How many pictures a second did each network see, up to its last row? How many times as many did the growing one see?

# %% tags=["exercise"]
times = ...  # a number
speeds = {name: rows[-1][1] / rows[-1][0] for name, rows in about["curves"].items()}
check("exercise 3", times, speeds["growing"] / speeds["at_once"], tol=0.01, hint="the last rows: pictures over seconds")

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# (seconds, pictures), (seconds_at_once, pictures_at_once) = (about["curves"][name][-1] for name in ("growing", "at_once"))
# times = (pictures / seconds) / (pictures_at_once / seconds_at_once)
# ```
#
# Small pictures cost little: in the paper, too, growing was 2 to 6 times faster at 1024 pixels.
# </details>

# %% [markdown]
# ## The answer
#
# **Question:** the video names CycleGAN, StackGAN, BigGAN and ProgressiveGAN, and stops at StyleGAN. What did each of them add, and is StyleGAN's space really better ordered?
#
# **Answer:** GAN: a second network as the judge. StackGAN: words, as a cloud, sketch first. CycleGAN: the way home instead of pairs. ProgressiveGAN: small pictures first, which pays when pictures are large. BigGAN: the class in
# every layer, and a dial from variety to fidelity. StyleGAN: a mapping network and a style for every layer. Its W is better ordered than its Z, three times by path length; than an older network's Z by planes only. Straight lines through W that stay faces are what this course's filter starts from.
#
# ## What next
#
# [11 · Whom does it fail?](11_limits.ipynb) asks what all of them have in common: they draw what they were shown. `dvlatent train-gan DIR --resolution 64 --out DIR` trains a StyleGAN2 on pictures of your own.
