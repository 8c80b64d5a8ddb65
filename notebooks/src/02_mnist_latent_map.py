# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 02 · Can a network put pictures in order?
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/dvlatent/blob/main/notebooks/02_mnist_latent_map.ipynb)
#
# **Question:** if nobody tells a network what a 3 is, will it still lay the 3s together on a map, and the 3 beside the 8?
#
# **You will:**
# - sort twenty faces on a table by two criteria, and then let a network choose its own,
# - build the network by hand: 784 numbers in, two in the middle, 784 out, and then with clouds instead of points,
# - measure who lies beside whom, and how much a third axis helps,
# - move over the map with your finger, and decode places where no picture ever was,
# - see a thousand faces on a plane, and find out what its two axes mean.
#
# **Before this:** [00 · Start here](00_start_here.ipynb) (or: nothing but a little Python)
#
# **Time:** 60 s of computing on two CPU cores, 45 minutes of yours
#
# **Explains:** the part of the video in which pictures are sorted on a table, then on a plane, then in a cube

# %% tags=["setup"]
from importlib.util import find_spec

if find_spec("dvlatent") is None:  # on Colab: the library, then the weights; elsewhere this does nothing
    get_ipython().run_line_magic("pip", 'install -q "dvlatent @ git+https://github.com/OWNER/dvlatent"')
    get_ipython().system("dvlatent assets")

# %%
from itertools import pairwise

import numpy as np
import torch

import dvlatent
from dvlatent import images
from dvlatent.autoencoder.model import Autoencoder, AutoencoderConfig
from dvlatent.autoencoder.train import AutoencoderTrainConfig, encode_all, loss_parts, train_autoencoder
from dvlatent.editing import survey
from dvlatent.lessons import plot
from dvlatent.lessons.latent_map import COLORS, latent_map, still
from dvlatent.lessons.teach import check
from dvlatent.metrics.features import knn_accuracy, neighbors

# %% [markdown]
# ## The table
#
# Twenty photographs lie on a table (of people who do not exist: the generator of lesson 00 drew them). You are asked to put them in order: the old
# ones to the right, the smiling ones to the top. So every photograph gets two numbers from 0 to 4. Here is our attempt, by eye.
#
# > **Do it:** write your own numbers into the next cell and run it. Then look at the table: would you move a photograph?

# %%
seeds = [64, 105, 21, 1, 34, 152, 5, 245, 100, 14, 70, 22, 0, 7, 69, 118, 75, 394, 32, 58]
old = [2, 0, 2, 3, 1, 3, 1, 4, 1, 2, 4, 0, 1, 3, 4, 1, 2, 1, 2, 0]  # 0 a child, 4 past sixty: yours instead
smiling = [4, 3, 1, 0, 3, 1, 0, 3, 3, 0, 0, 4, 1, 4, 0, 4, 4, 1, 2, 3]  # 0 not at all, 4 with all teeth

generator = dvlatent.load("faces")
with torch.no_grad():
    photos = generator.preview(dvlatent.broadcast(generator.mapping(dvlatent.normal(seeds, 512)), 16))  # [20, 3, 256, 256]
photos = images.resize(photos, 128)

# %%
fig, axes = plot.chart(height=7.2)
placed = []
for photo, x, y in zip(images.to_uint8(photos), old, smiling, strict=True):
    left = x - 0.24 + 0.48 * placed.count((x, y))  # photographs with the same numbers lie side by side
    axes.imshow(photo, extent=(left, left + 0.46, y - 0.4, y + 0.4), aspect="auto", zorder=3)
    placed.append((x, y))
axes.set(title="Our table", xlabel="old", ylabel="smiling", xlim=(-0.4, 4.9), ylim=(-0.5, 4.5), xticks=range(5), yticks=range(5))
plot.show(fig, alt="Twenty faces laid out by age to the right and smile upward. The young mostly smile; of three past sixty one does.")

# %% [markdown]
# A machine can do this too, once somebody says *what to look for*: one network learned to read an age, and the smile follows from points on the
# mouth. Both scores come with the library.
#
# > **Predict:** sort the twenty by the machine's two scores and by our numbers. How well do the two orders agree, if 1 is perfectly and 0 is by luck?

# %%
from scipy.stats import spearmanr  # correlation of two orders (Spearman 1904)

scores = survey.load().take(seeds)
for name, mine in (("age", old), ("smile", smiling)):
    print(f"{name}: {spearmanr(mine, scores.column(name)).statistic:.1f}")

# %% [markdown]
# **Check your guess:** well, though not perfectly. But look at what we did: *we* chose the two criteria, and on our table a man may lie beside a
# woman, a bright picture beside a dark one. What if the machine had to choose the two numbers itself? Faces take longer than a lesson to learn from; so let us
# begin with small pictures, handwritten digits ([MNIST](https://ieeexplore.ieee.org/document/726791)), and come back to faces at the end.
#
# ## Two numbers in the middle
#
# It needs a task in which good numbers pay off. This one is enough: **draw the picture again, after passing it through two numbers**.
# An **encoder** squeezes 784 pixels into two numbers, the **code**; a **decoder** draws 784 pixels from them. Both are trained together so that what
# comes out equals what went in. That is an **autoencoder** ([Hinton and Salakhutdinov 2006](https://doi.org/10.1126/science.1127647)). The plane of all
# codes is its **latent space** (latent: hidden, because no picture shows its code). Every point of it is a picture. Nobody tells the network that there is such a thing as a 3.
#
# > **Predict:** two numbers for 784. What will the redrawn digits look like after the first few hundred steps?


# %%
train, test = dvlatent.load("mnist").split()  # 4,000 digits to learn from, 1,000 that nothing here ever learns from


def layers(*widths):
    """Linear layers, a bend (SiLU) after each but the last."""
    stack = [part for a, b in pairwise(widths) for part in (torch.nn.Linear(a, b), torch.nn.SiLU())]
    return torch.nn.Sequential(*stack[:-1])


# %%
torch.manual_seed(0)
encoder, decoder = layers(784, 128, 128, 2), layers(2, 64, 128, 784)
x = (train.images.flatten(1) + 1) / 2  # [4000, 784], ink from 0 to 1
adam = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=2e-3)
for step in range(401):
    batch = x[torch.randint(len(x), (64,))]
    error = (torch.sigmoid(decoder(encoder(batch))) - batch).square().mean()
    adam.zero_grad(), error.backward(), adam.step()
    if step in (0, 400):
        print(f"after {step:3d} steps: error of a pixel {error:.2f}")

# %% [markdown]
# That is all of it. The library's `Autoencoder` is the same two stacks of layers; with our weights it must draw the same pictures.

# %%
mine = Autoencoder().eval()
mine.encoder.load_state_dict(encoder.state_dict())
mine.decoder.load_state_dict(decoder.state_dict())
ten = test.images[:1000:100]
by_hand = 2 * torch.sigmoid(decoder(encoder((ten.flatten(1) + 1) / 2))).view(-1, 1, 28, 28) - 1
check("squeezed and redrawn by hand, it is the library's", mine(ten), by_hand, tol=1e-3)

fig = plot.faces(-torch.cat([ten, by_hand.detach()]), columns=10,  # minus: ink on paper
                 caption="Above: ten digits. Below: redrawn from two numbers each, after 400 steps.")
plot.show(fig, alt="Ten digits, and below each the blurred shape that the young network draws from two numbers; "
          "some are right, many are a smear.")

# %% [markdown]
# Two additions make it better in the same time. The encoder sees each digit shifted, turned and slanted by chance, while the decoder has to draw it
# as it was: so it does not pay to spend a number on slant (a *denoising* autoencoder, [Vincent et al. 2008](https://doi.org/10.1145/1390156.1390294)). And the codes are kept at mean 0 and
# standard deviation 1, so that the map has a size. We train it for some seconds, and watch the plane.

# %% tags=["nbval-ignore-output"]
snapshots = {}
for step in train_autoencoder(train.images, Autoencoder(), AutoencoderTrainConfig(steps=1500, shake=1.0)):
    if step.index in (20, 200, 1499):
        snapshots[step.index + 1] = encode_all(step.net, test.images)
        step.net.train()
live = step.net.eval()


# %% tags=["nbval-ignore-output"]
def islands(axes, codes, size=9):
    """Digits as dots, and in the middle of each kind its name."""
    axes.scatter(*codes.T, c=[COLORS[label] for label in test.labels], s=size, alpha=0.7, linewidths=0)
    for digit in range(10):
        axes.text(*codes[test.labels == digit].median(dim=0).values, f"{digit}", size=15, weight="bold", ha="center", va="center")


fig, panels = plot.chart(columns=3, height=4.3)
for axes, (count, codes) in zip(panels, snapshots.items(), strict=True):
    islands(axes, codes)
    axes.set(title=f"after {count} steps", xlim=(-3, 3), ylim=(-3, 3), aspect="equal")
plot.show(fig, alt="A thousand held-out digits as dots in ten colours, after 21, 201 and 1,500 steps: first on one "
          "line, then spread, at the end mostly in islands of one colour; 5 and 8, 2 and 6, 4 and 9 overlap.")

# %% [markdown]
# The colours are ours. The network never saw a label, and the thousand digits in the picture it never saw at all. And yet: islands, though some overlap.
#
# ## The map
#
# The same network, trained eight times longer, is shipped. On the left, held-out digits lie where its encoder puts them; on the right the
# decoder draws every place of the plane, also where no digit ever was.

# %%
shipped = dvlatent.load("digit-map")
with torch.no_grad():
    codes, known = shipped.encode(test.images), shipped.encode(train.images)  # [1000, 2], [4000, 2]
fig = still(shipped.decoder, codes, test.images, test.labels)
plot.show(fig, alt="Left: held-out digits in their colours, most kinds in a region of their own; 4 and 9 share one, 8s lie among 3s and 5s. "
          "Right: a grid of decoded digits that change smoothly into each other.")

# %% [markdown]
# Here it is to move about on: **drag** over the map, or press the arrow keys. "Draw a path" lets you draw a line that the film then follows.
# Your browser does the decoding, about a hundred thousand multiplications for a picture; no Python runs while you drag.
#
# > **Try:** go from the 3s to the 8s, slowly. Is there a place that is both? Then find one that is nothing.

# %% tags=["nbval-ignore-output"]
latent_map(shipped.decoder, codes, test.images, test.labels, title="A map of digits")

# %% [markdown]
# ## Is the 3 really beside the 8?
#
# An eye finds what it looks for. So count: take every held-out 3, look at its ten nearest neighbours on the map, and ask what they are.
#
# > **Predict:** which digit, other than the 3 itself, is most often beside a 3? And beside a 4?

# %%
table = neighbors(codes, test.labels)  # [10, 10], rows add up to 1
nearest = torch.cdist(codes[test.labels == 3], codes).argsort(dim=1)[:, 1:11]  # the nearest of all is itself
by_hand = torch.bincount(test.labels[nearest].flatten(), minlength=10) / nearest.numel()
check("the row of the 3 by hand is the library's", by_hand, torch.as_tensor(table[3]), tol=1e-3)

fig, axes = plot.chart(height=5.6)
axes.imshow(table, cmap="Blues", vmin=0, vmax=1)
for row in range(10):
    for column in range(10):
        if table[row, column] >= 0.005:
            axes.text(column, row, f"{100 * table[row, column]:.0f}", ha="center", va="center",
                      color="white" if table[row, column] > 0.5 else "black")
axes.set(title="Of the neighbours of a digit, percent that are ...", xlabel="... this one", ylabel="a digit", xticks=range(10), yticks=range(10))
axes.grid(visible=False)
plot.show(fig, alt="A ten by ten table. The diagonal is dark; off it, 4 and 9 share a third of their neighbours, and 3 and 8 a seventh.")

# %%
foreign = table - np.diag(np.diag(table))
for digit in (3, 8, 4, 7):
    first = foreign[digit].argmax()
    print(f"beside a {digit}: most often {first}, {100 * foreign[digit][first]:.0f} % of all its neighbours")

# %% [markdown]
# **Check your guess:** the video is right, on this map: the strange neighbour of a 3 is most often an 8, and the other way round. But is it the network, or the
# luck of this training? Two more, from other first weights, and shorter.

# %% tags=["nbval-ignore-output"]
beside = [foreign]
for seed in (1, 2):
    *_, step = train_autoencoder(train.images, Autoencoder(), AutoencoderTrainConfig(steps=900, shake=1.0, seed=seed))
    other = neighbors(encode_all(step.net, test.images), test.labels)
    beside.append(other - np.diag(np.diag(other)))
print("two most frequent strange neighbours, percent")
print(f"{'':14}" + "".join(f"{name:20}" for name in ("shipped", "seed 1", "seed 2")))
for digit in (3, 8, 4, 7):
    firsts = [[(one, 100 * each[digit][one]) for one in each[digit].argsort()[:-3:-1]] for each in beside]
    print(f"beside a {digit}    " + "".join(f"{f'{a}: {x:.0f}, {b}: {y:.0f}':20}" for (a, x), (b, y) in firsts))

# %% [markdown]
# 4 and 9 are neighbours every time. 3, 5 and 8 are one neighbourhood every time, but which of them comes first depends on the seed and on how long
# one trains. So say it with care: *similar digits lie together, whatever the seed; who exactly is next to whom is partly luck*. Such a map is not the
# truth about digits, it is one of many good answers.
#
# ## How good is the map? One axis, two, three
#
# One number for the order: the **10-nearest-neighbour accuracy**. Place a held-out digit on the map, look at the ten nearest of the 4,000, and let them vote
# what it is. A pure map names it; on a meaningless one you are right one time in ten.
#
# The rivals: the plane of **PCA** ([Pearson 1901](https://doi.org/10.1080/14786440109462720): the two straight directions along which the pictures differ most), and **t-SNE** ([van der Maaten and Hinton 2008](https://www.jmlr.org/papers/v9/vandermaaten08a.html)), which draws beautiful
# maps but has neither encoder nor decoder: it can place only what it was given, and draw nothing.
#
# > **Predict:** PCA's plane is right 45 % of the time. How much does the network reach with two numbers? How much with one, and with three?

# %%
from sklearn.decomposition import PCA


def vote(a, b, known=train.labels, truth=test.labels):
    """Share of digits at b whose ten nearest at a name them."""
    return knn_accuracy(a, known, b, truth, k=10).value


accuracy = {}
for count in (1, 2, 3):
    pca = PCA(count, svd_solver="full").fit(train.images.flatten(1))
    accuracy["PCA", count] = vote(*(pca.transform(part.images.flatten(1)) for part in (train, test)))
accuracy["autoencoder, shipped", 2] = vote(known, codes)
ratio = accuracy["autoencoder, shipped", 2] / accuracy["PCA", 2]
print(f"PCA {accuracy['PCA', 2]:.2f}, autoencoder {accuracy['autoencoder, shipped', 2]:.2f}: {ratio:.1f} times as often right")

# %% tags=["nbval-ignore-output"]
nets = {("autoencoder", 2): live}
for shape in (AutoencoderConfig(code=1), AutoencoderConfig(code=3), AutoencoderConfig(variational=True)):
    name = "VAE" if shape.variational else "autoencoder"
    *_, step = train_autoencoder(train.images, Autoencoder(shape), AutoencoderTrainConfig(steps=1000, shake=1.0))
    nets[name, shape.code] = step.net.eval()
accuracy |= {key: vote(*(encode_all(net, part.images) for part in (train, test))) for key, net in nets.items()}
for (name, count), value in sorted(accuracy.items()):
    print(f"{name:22} {count} number{'s' if count > 1 else ' '}   {value:.2f}")

# %%
from sklearn.manifold import TSNE

few = torch.cat([train.images[::4], test.images[::2]]).flatten(1)  # 1,000 and 500: it takes its time
plane = TSNE(perplexity=30, init="pca", random_state=0, max_iter=500).fit_transform(few.numpy())
straight = PCA(2, svd_solver="full").fit(few[:1000]).transform(few)
same = (train.labels[::4], test.labels[::2])
rows = {"PCA": (straight[:1000], straight[1000:]),
        "autoencoder, shipped": (known[::4], codes[::2]), "t-SNE": (plane[:1000], plane[1000:])}
print("the same 1,000 digits vote on the same 500")
for name, (a, b) in rows.items():
    print(f"{name:22} {vote(torch.as_tensor(a), torch.as_tensor(b), *same):.1f}")

# %% [markdown]
# **Check your guess.** Every axis helps: with one, the network has to pack ten kinds of digits onto a line; with three it has a cube, and islands that had to touch
# on the plane can pass above each other. That is why the video goes from the table to the cube.
# t-SNE is purer than both, but the comparison favours it: it was fitted on the 500 test digits, too (without labels). And nothing can be decoded there.

# %%
fig, axes = plot.chart(columns=2, height=5.2, subplot_kw={"projection": "3d"})
cube = encode_all(nets["autoencoder", 3], test.images)
for panel, turn in zip(axes, (20, 110), strict=True):
    islands(panel, cube)
    panel.view_init(elev=22, azim=turn)
    panel.set(xlim=(-2.5, 2.5), ylim=(-2.5, 2.5), zlim=(-2.5, 2.5), title=f"the cube, seen from {turn}°")
plot.show(fig, alt="A cube of a thousand dots in ten colours, seen from two sides: 0, 1 and 7 stand apart, 4 and 9 lie together, and so do 5 and 8.")

# %% [markdown]
# ## Holes in the map
#
# Nobody asked the encoder to leave no gaps. Between two islands it may leave a stretch where no digit ever was; the decoder draws something there, but
# nobody ever told it what is good. The **variational** autoencoder ([Kingma and Welling 2014](https://arxiv.org/abs/1312.6114)) changes one thing: the encoder gives every digit
# a small *cloud* instead of a point, the decoder must cope with any point of the cloud, and all clouds together are pulled to the origin. By hand:

# %%
def vae_loss(encoder, decoder, picture, noise, sigma=0.3):
    """The loss of each picture: [batch]. sigma: how far a pixel may be off."""
    ink = (picture.flatten(1) + 1) / 2  # [batch, 784]
    mean, log_variance = encoder(ink).chunk(2, dim=1)  # of each cloud, [batch, 2]
    code = mean + (log_variance / 2).exp() * noise  # a random point of the cloud
    error = (torch.sigmoid(decoder(code)) - ink).square().sum(dim=1)
    pull = (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1) / 2
    return error / (2 * sigma**2) + pull


vae = Autoencoder(AutoencoderConfig(variational=True))
noise = torch.randn(10, 2, generator=torch.Generator().manual_seed(0))
square, nats = loss_parts(vae, ten, ten, torch.Generator().manual_seed(0))
check("the loss by hand is the library's", vae_loss(vae.encoder, vae.decoder, ten, noise), square.sum((1, 2, 3)) / 0.18 + nats, tol=1e-3)

# %% [markdown]
# <details><summary>Why these two terms: the evidence lower bound (ELBO)</summary>
#
# A good decoder makes the real pictures probable. The probability of a picture is an average over all codes, `p(x) = ∫ p(x|c) p(c) dc`, `p(c)` the standard normal: too many codes
# to try. So let the encoder propose those worth trying, `q(c|x)`, its cloud. The logarithm of an average is at least the average of the logarithms (Jensen), hence
#
# ```text
# log p(x) = log E_q[ p(x|c) p(c) / q(c|x) ]  ≥  E_q[ log p(x|c) ] − KL( q(c|x) ‖ p(c) )
# ```
#
# The right side is the **evidence lower bound**; the loss is its negative. If a pixel is off by a normal error of size σ, `−log p(x|c)` is `error / 2σ²` plus a constant. And the divergence
# of a cloud from the standard normal is, for two normal distributions, `½ Σ (μ² + s² − 1 − log s²)`: the pull of the cell above.
# </details>
#
# > **Predict:** draw a random vector of two standard normal numbers, and decode it. A classifier that is right on 98.7 % of real digits says how sure it
# > is. Of which net are more of the drawings clear digits?

# %% tags=["nbval-ignore-output"]
classifier, z = dvlatent.load("digit-classifier"), dvlatent.normal(range(600), 2)
gan = dvlatent.load("digits")
with torch.no_grad():
    samples = {name: nets[name, 2].decode(z) for name in ("autoencoder", "VAE")}
    samples |= {"GAN of lesson 01": gan(dvlatent.normal(range(600), gan.z_dim)), "real digits": test.images}
    belief = {name: classifier(pictures).max(dim=1) for name, pictures in samples.items()}
for name, (confidence, _) in belief.items():
    print(f"{name:18} {100 * (confidence >= 0.9).float().mean():3.0f} % are named with confidence 0.9")
fig = plot.labeled_grid(-torch.cat([samples[name][:10] for name in list(samples)[:3]]), rows=["autoencoder", "VAE", "GAN\nlesson 01"],
                        columns=[f"seed {at}" for at in range(10)])
plot.show(fig, alt="Ten digits from random vectors, by each of three nets: the autoencoder's and the VAE's are soft and some are unclear, "
          "the GAN's are sharp.")

# %% [markdown]
# By its word, the VAE beats the autoencoder and nearly reaches the real digits. Now look at ten of its drawings of which the classifier is surest of all, and measure clearness
# without a classifier: a pen leaves ink or paper. How much of the inked part of a drawing is *gray*, between 20 and 80 % of full ink?

# %% tags=["nbval-ignore-output"]
def gray(pictures):
    """Share of the inked pixels that are neither paper nor full ink: [batch]."""
    ink = ((pictures + 1) / 2).flatten(1)
    return ((ink > 0.2) & (ink < 0.8)).sum(dim=1) / (ink > 0.2).sum(dim=1)


limit = gray(test.images).quantile(0.95)  # clear: no grayer than 95 % of the real digits
for name, pictures in samples.items():
    share = gray(pictures)
    print(f"{name:18} gray {100 * share.median():3.0f} % (median); clear are {100 * (share <= limit).float().mean():3.0f} %")
confidence, digit = belief["VAE"]
worst = torch.where(confidence >= 0.99, gray(samples["VAE"]), 0).argsort(descending=True, stable=True)[:10]
fig = plot.faces(-samples["VAE"][worst], columns=10, titles=[f"{100 * confidence[at]:.1f} %: {digit[at]}" for at in worst],
                 caption="Smears of the VAE: how sure the classifier is, and of which digit.")
plot.show(fig, alt="Ten gray smears between a 9, a 5, a 6 and an 8; the classifier calls each of them an 8, and is at least 99.9 % sure.")

# %%
fig, panels = plot.chart(columns=2, height=5.4)
for axes, name in zip(panels, ("autoencoder", "VAE"), strict=True):
    islands(axes, encode_all(nets[name, 2], test.images))
    axes.plot(*z[:150].T, "+", color="black", markersize=6, markeredgewidth=1)
    axes.set(title=f"{name}: digits, and random vectors (+)", xlim=(-3.5, 3.5), ylim=(-3.5, 3.5), aspect="equal")
plot.show(fig, alt="Two maps with crosses where random vectors fall. On both most crosses lie among digits and some in gaps; "
          "on the VAE's map the digits are spread wider than the crosses.")

# %% [markdown]
# **Check your guess** on your own numbers; they change a little from machine to machine. *A sure classifier is not a clear digit*: it never saw a smear, and must say something.
# Clouds spread the digits out to where random vectors fall, and the map is about as pure as before (its vote is above); but they sharpened nothing. With two numbers both nets draw the
# blur of all digits that share a place. The GAN is another bargain: it has 64 random numbers instead of two and draws as clearly as real pens, but it has **no encoder**. You can ask
# it for a digit; you cannot ask it where *your* digit lies. Lesson 06 has to search for that.
#
# ## Faces on a plane
#
# Now a thousand faces that the generator of lesson 00 drew (seeds 0 to 999). The same kind of network, 64 by 64 pixels in colour, learned from 19,000 others
# to squeeze a face into two numbers.
#
# > **Predict:** what will the two axes mean? Age? Gender? The smile? Think of what helps most to redraw a picture of 12,288 numbers.

# %%
atlas = dvlatent.load("face-map")
faces = images.resize(dvlatent.load("faces-small"), 64)  # [1000, 3, 64, 64]
face_codes = encode_all(atlas, faces)
fig = still(atlas.decoder, face_codes, faces, count=12)
plot.show(fig, alt="Left: small faces on a plane, bright pictures above and dark ones below. Right: decoded faces, one blurred face "
          "everywhere, brighter upward, and before a lighter wall to the right.")

# %%
face = faces[:, :, 16:52, 18:46].mean(dim=(1, 2, 3))  # the middle of the picture
behind = torch.cat([faces[:, :, :44, :10], faces[:, :, :44, -10:]], dim=3).mean(dim=(1, 2, 3))  # both its edges
population = survey.load().take(1000)  # perceived scores of the same seeds, read by other networks
columns = {"brightness of the picture": faces.mean(dim=(1, 2, 3)), "of the background": behind, "of the face": face,
           "background minus face": behind - face}
columns |= {f"perceived {name}": population.column(name) for name in ("age", "male", "smile", "yaw")}
plane = torch.cat([face_codes, torch.ones(1000, 1)], dim=1).double()
print("how much of it the two numbers tell (R², 1 is all)")
for name, value in columns.items():
    y = value.double().nan_to_num(float(value.nanmean()))
    rest = y - plane @ torch.linalg.lstsq(plane, y[:, None]).solution[:, 0]
    print(f"{name:32} {1 - rest.var() / y.var():.2f}")

# %% tags=["nbval-ignore-output"]
latent_map(atlas.decoder, face_codes, faces, title="A map of faces", thumbs=150)

# %% [markdown]
# **Check your guess:** it is the **light**. A bright or a dark picture, and whether face or background is the brighter one: that is what changes most pixels at once, so that is what two numbers are spent on. Age,
# gender and smile change few pixels; the plane knows next to nothing of them. The network ordered the pictures perfectly well, by *its* criterion.
#
# Look once more at the lower right: "a dark face" may be a face in the shade or a person of darker skin. Two numbers of brightness cannot tell the two apart, and a
# network that is asked for pixels has no reason to. It is a first taste of how such maps go wrong for some people more than for others (lesson 11).
#
# So a map that orders faces by what *people* care about needs more than two numbers, and somebody who asks. Lesson 03 has 512 of them; lesson 05
# asks for age, and finds the direction.
#
# ## Exercises
#
# Replace `...`, run the cell, read the hint.

# %% [markdown]
# ### Exercise 1: halfway
# `codes[0]` and `codes[-1]` are two digits on the map. Decode the place halfway between them.

# %% tags=["exercise"]
halfway = ...  # a picture: [1, 1, 28, 28]
check("exercise 1", halfway, lambda image: torch.allclose(image, shipped.decode(codes[[0, -1]].mean(0, keepdim=True)), atol=1e-4) or "mean of the codes, then decode")

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# halfway = shipped.decode((codes[0:1] + codes[-1:]) / 2)
# ```
#
# Arithmetic happens on the map; only then do you draw. The mean of the two *pictures* would be a double exposure.
# </details>

# %% [markdown]
# ### Exercise 2: the largest hole
# `grid` holds 41 times 41 places. Which of them is the farthest from every known digit? (Look at it: `shipped.decode(grid[hole][None])`.)

# %% tags=["exercise"]
grid = torch.cartesian_prod(torch.linspace(-2, 2, 41), torch.linspace(-2, 2, 41))  # [1681, 2]
hole = ...  # the number of a row of grid
check("exercise 2", hole, lambda row: int(row) == int(torch.cdist(grid, known).min(dim=1).values.argmax()) or "first the nearest known digit of each place, then the place where it is farthest")

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# hole = torch.cdist(grid, known).min(dim=1).values.argmax()
# ```
#
# The decoder draws something there too. It never learned whether that is any good.
# </details>

# %% [markdown]
# ### Exercise 3: train it yourself
# Write the training of a VAE: draw a batch of 64 pictures, their noise, take a step of Adam down `vae_loss`, again and again. Return the two networks. The check trains yours for 300
# steps, and wants a loss of the held-out digits below 260 (untrained it is about 1,000; with one mean picture for all, 295).


# %% tags=["exercise"]
def train_vae(pictures, steps):
    """[picture, 1, 28, 28] -> encoder, decoder."""
    ...  # your lines; layers(784, 128, 128, 4) and layers(2, 64, 128, 784) are the networks


def held_out_loss(train_mine):
    trained = train_mine(train.images, steps=300)
    loss = vae_loss(*trained, test.images, dvlatent.normal(range(1000), 2)).mean()
    return loss < 260 or f"the loss is {loss:.0f}: zero_grad, backward and step in every turn, new noise in every turn"


check("exercise 3", train_vae, held_out_loss)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def train_vae(pictures, steps):
#     encoder, decoder = layers(784, 128, 128, 4), layers(2, 64, 128, 784)
#     adam = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=2e-3)
#     for _ in range(steps):
#         batch = pictures[torch.randint(len(pictures), (64,))]
#         loss = vae_loss(encoder, decoder, batch, torch.randn(64, 2)).mean()
#         adam.zero_grad(), loss.backward(), adam.step()
#     return encoder, decoder
# ```
#
# Four numbers leave the encoder: two means, two logarithms of variances.
# </details>

# %% [markdown]
# ### An open question
# A shop sorts its customers on such a map, by what they bought. What could an island be, what could a hole be, and what would you have to know before you act on either?

# %% [markdown]
# ## The answer
#
# **Question:** if nobody tells a network what a 3 is, will it still lay the 3s together on a map, and the 3 beside the 8?
#
# **Answer:** yes. Asked only to redraw pictures from two numbers, it put held-out digits into islands: ten neighbours name a digit four times in five, nearly twice as often as on
# PCA's plane. Of the strange neighbours of a 3, the 8 is the first on the shipped map; with other seeds and shorter training the 5 comes before it. Every place of the plane is a picture, and
# some are of nothing. A third axis helps. And what the axes mean is the network's choice: on faces it chose the light.
#
# ## What next
#
# [03 · Sampling faces](03_stylegan_sampling.ipynb): from two numbers to 512, and a space in which neighbours are alike everywhere.
# (How the GAN learned to draw its digits: [01 · Can two networks teach each other to draw?](01_gan_basics.ipynb))
