# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 01 · Can two networks teach each other to draw?
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/dvlatent/blob/main/notebooks/01_gan_basics.ipynb)
#
# **Question:** do two networks with opposite tasks make each other better, until what one of them draws can hardly be told from what is real?
#
# **You will:**
# - play the game by hand, with its two helpers R1 and EMA, on points of the plane, where you can see both networks think,
# - teach a network to draw digits in half a minute, and compare it with one that was taught for long,
# - read the two losses, and find out what they do not tell,
# - measure what "almost indistinguishable" means,
# - at home: break the game in four classic ways, and repair it each time by one number.
#
# **Before this:** [00 · Start here](00_start_here.ipynb)
#
# **Time:** 80 s of computing on two CPU cores, 50 minutes of yours, then 30 at home (a place to stop is marked)
#
# **Explains:** the part of the video in which a network that draws and a network that judges play against each other

# %% tags=["setup"]
from importlib.util import find_spec

if find_spec("dvlatent") is None:  # on Colab: the library, then the weights; elsewhere this does nothing
    get_ipython().run_line_magic("pip", 'install -q "dvlatent @ git+https://github.com/OWNER/dvlatent"')
    get_ipython().system("dvlatent assets")

# %%
import math

import torch
from torch.nn import functional as F
from torch.nn.utils import parameters_to_vector

import dvlatent
from dvlatent.gan import data
from dvlatent.gan.digits import DigitDiscriminator, DigitGenerator
from dvlatent.gan.points import PointDiscriminator, PointGenerator
from dvlatent.gan.train import TrainConfig, discriminator_loss, generator_loss, gradient_penalty, train
from dvlatent.lessons import diagrams, plot
from dvlatent.lessons.teach import check
from dvlatent.metrics.features import frechet

# %% [markdown]
# ## The game
#
# A **generator** is given a **random vector**, a row of random numbers, and makes something of it. A **discriminator** (some call it critic) is
# given something and says how real it looks: a score, above 0 for "real", below 0 for "generated". Their tasks are opposite. The discriminator
# learns to tell real from generated. The generator never sees a real thing: it learns from the discriminator alone how to change what
# it makes, so that the score rises. That is a **GAN**, a generative adversarial network ([Goodfellow et al. 2014](https://arxiv.org/abs/1406.2661)).
#
# Nobody can look into a game about thousands of numbers. So we begin with two: points of the plane.
# "Real" is a ring of eight places. Both networks are small: three layers of 64.

# %%
real = data.ring(2000)  # [2000, 2]
z_points = dvlatent.normal(range(400), 2)  # [400, 2]: the same random vectors all through
torch.manual_seed(0)
generator, discriminator = PointGenerator(), PointDiscriminator()

fig, (left, right) = plot.chart(columns=2, height=5.6)
diagrams.arena(left, discriminator, real[:400], z_points[:0], "What is real")
diagrams.arena(right, discriminator, real[:0], generator(z_points).detach(), "Drawn by an untrained generator", arrows=0)
plot.show(fig, alt="Left: grey points in eight clusters on a ring. Right: dark points of the untrained generator, "
          "all in one small heap in the middle.")

# %% [markdown]
# ## One turn, by hand
#
# The score `s` becomes a probability of "real" by `σ(s) = 1 / (1 + e⁻ˢ)`. The paper states the game as a **minimax**: one value, which the discriminator makes as
# large as it can, and the generator as small:
#
# ```text
# min over generators, max over discriminators:   mean of log σ(s real)  +  mean of log(1 − σ(s generated))
# ```
#
# Nearly nobody trains a generator by it, and the same paper says why. Where the discriminator is sure of what is generated, the generator's half is flat: it
# **saturates**, and who is worst learns least. So the generator makes `−log σ(s generated)` small instead: the **non-saturating** loss, with the same end.
#
# > **Predict:** how steep are both losses for a hopeless point, of score −8: 0, a half or 1? And how large are the discriminator's and the generator's loss when
# > every point is given 50 %?

# %%
s = torch.tensor([-8.0, 0.0, 8.0], requires_grad=True)
for name, loss in {"minimax": (1 - torch.sigmoid(s)).log(), "non-saturating": -torch.sigmoid(s).log()}.items():
    (slope,) = torch.autograd.grad(loss.sum(), s)
    print(f"{name:14}", *(f"| slope {of:6.3f} at score {at:2.0f}" for at, of in zip(s, slope, strict=True)))
print(f"at a draw: discriminator 2 ln 2 = {2 * math.log(2):.3f}, generator ln 2 = {math.log(2):.3f}")

# %% [markdown]
# **Check your guess:** only the second loss moves a hopeless point. Programs write `−log σ(s) = log(1 + e⁻ˢ)` as **softplus**(−s), and
# `−log(1 − σ(s))` as softplus(s): the same curve, but a computer rounds σ(−200) to 0, whose logarithm is infinite.

# %%
print(f"minus log σ of a score of -200: in two steps {-torch.sigmoid(torch.tensor(-200.0)).log():.0f}, by softplus {F.softplus(torch.tensor(200.0)):.0f}")
score_real, score_fake = discriminator(real[:64]), discriminator(generator(z_points[:64]))
by_hand = -torch.sigmoid(score_real).log().mean() - (1 - torch.sigmoid(score_fake)).log().mean()
check("the discriminator's loss by hand is the library's", by_hand, discriminator_loss("non-saturating", score_real, score_fake))
by_hand = -torch.sigmoid(score_fake).log().mean()
check("the generator's loss by hand is the library's", by_hand, generator_loss("non-saturating", score_fake))

# %% [markdown]
# <details><summary>The best discriminator there can be, and what the game really makes small</summary>
#
# At a point x let real things have the density p, generated ones q. The value gains `p log D + q log(1 − D)` there, D the probability "real". The derivative `p / D − q / (1 − D)` is 0 at
# **D = p / (p + q)**, that is at the score `s = ln(p / q)`. Put in, the value is `−2 ln 2 + 2 JSD(p, q)`; the Jensen-Shannon divergence JSD is 0 where p = q everywhere, and larger
# elsewhere. So against the best opponent the best generator is reality, and then every score is 0: a draw. (Exercise 2 tests `ln(p / q)`.)
# </details>
#
# A turn is two small steps: one of the discriminator, one of the generator. Here is the whole game; `Adam`
# ([Kingma and Ba 2015](https://arxiv.org/abs/1412.6980)), the **optimiser**, turns gradients into steps.


# %%
def play_by_hand(generator, discriminator, turns):
    """The non-saturating game (Goodfellow et al. 2014, section 3), with nothing added."""
    adam_g, adam_d = (torch.optim.Adam(net.parameters(), 0.01, betas=(0.0, 0.99)) for net in (generator, discriminator))
    rng = torch.Generator().manual_seed(0)
    for _ in range(turns):
        for adam in (adam_d, adam_g):  # each player draws anew, in the library's order: real ones, random vectors, (labels)
            batch = real[torch.randint(2000, (64,), generator=rng)]
            made = generator(torch.randn(64, 2, generator=rng))
            torch.randint(2000, (64,), generator=rng)
            loss_d = F.softplus(-discriminator(batch)).mean() + F.softplus(discriminator(made.detach())).mean()
            loss = loss_d if adam is adam_d else F.softplus(-discriminator(made)).mean()
            adam.zero_grad()
            loss.backward()
            adam.step()


# %%
def fresh_pair(seed=0):
    """The same untrained networks every time."""
    torch.manual_seed(seed)
    return PointGenerator(), PointDiscriminator()


mine, library = fresh_pair(), fresh_pair()
play_by_hand(*mine, turns=20)
list(train(*library, real, TrainConfig(steps=20, batch=64, lr=0.01, discriminator_lr=0.01, penalty=0)))
check("after 20 turns, the generator by hand is the library's", mine[0](z_points), library[0](z_points), tol=1e-3)

# %% [markdown]
# `train` is a Python iterator: you write the `for`, and stop when you like. It adds two things, which you switch off at home.
#
# **R1** ([Mescheder et al. 2018](https://arxiv.org/abs/1801.04406)) is a **penalty** on a steep discriminator: its squared gradient at real points. **EMA**, the exponential moving
# average ([Yazıcı et al. 2019](https://arxiv.org/abs/1806.04498)), is a second generator, whose weights are a running mean of the first one's. It is the one that is kept.


# %%
def r1(discriminator, points):
    """The mean squared length of the gradient at real points (Mescheder et al. 2018, equation 9)."""
    points = points.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(points).sum(), points, create_graph=True)  # [batch, 2]
    return gradient.square().sum(dim=1).mean()


def ema(moments, batch, half_life):
    """Half of the mean is renewed every `half_life` points; early in the game sooner, in a twentieth of it."""
    kept = moments[0]
    for turn, weights in enumerate(moments[1:], 2):
        memory = 0.5 ** (batch / min(half_life, 0.05 * turn * batch))
        kept = memory * kept + (1 - memory) * weights
    return kept


# %%
pair, moments = fresh_pair(), []
for step in train(*pair, real, TrainConfig(steps=100, batch=64, ema_images=2000)):
    moments.append(parameters_to_vector(step.generator.parameters()).detach())  # all weights in a row
check("EMA by hand is the library's", ema(moments, 64, 2000), parameters_to_vector(step.ema.parameters()))
check("R1 by hand is the library's", r1(pair[1], real), gradient_penalty("non-saturating", pair[1], real, real, [], None))

# %% [markdown]
# ## Watch them play
#
# Colour is the discriminator's opinion of every point of the plane: orange where it would say "real", blue where "generated", white
# where it does not know. Grey points are real, dark ones generated; arrows show where the discriminator's gradient sends them ([GAN Lab](https://arxiv.org/abs/1809.01587) draws so).
#
# > **Predict:** what will the colours look like at the end, when the generator is good?

# %%
HEALTHY = {"steps": 1000, "batch": 128, "lr": 0.003, "discriminator_lr": 0.006, "penalty": 0.03, "ema_images": 5000}
centers = data.ring_centers()


def quality(points):
    """Of eight places, how many are reached; and the share of all points that lie near one."""
    distance, nearest = torch.cdist(points, centers).min(1)
    reached = nearest[distance < 0.4].bincount(minlength=8) > len(points) / 80  # a tenth of its due
    return int(reached.sum()), float((distance < 0.4).float().mean())


# %%
frames, stills, log = [], [], []
for step in train(*fresh_pair(), real, TrainConfig(**HEALTHY)):
    if step.index % 25 == 0 or step.index in (60, 999):
        now, kept = step.generator(z_points).detach(), step.ema(z_points).detach()
        log.append((step.index, step.discriminator_loss, step.generator_loss, quality(now)[1], quality(kept)[1]))
        view = (step.discriminator, real[:300], now[:300], f"turn {step.index + 1}")
        if step.index % 25 == 0:
            frames.append(diagrams.frame(lambda axes, view=view: diagrams.arena(axes, *view)))
        if step.index in (25, 60, 200, 999):
            stills.append(diagrams.frame(lambda axes, view=view: diagrams.arena(axes, *view), size_px=600))
reached, near = quality(kept)
print(f"places reached at the end: {reached} of 8; at least {20 * int(5 * near)} % of the points lie near one")

# %%
plot.show_film(torch.cat(frames), seconds=8, size_px=420, quality=60, alt="A film: dark points leave a heap in the "
               "middle, spread over a ring, and gather at its eight places, which turn into pale petals on blue.")

# %%
fig = plot.faces(torch.cat(stills), columns=2, caption="Colour: the discriminator's opinion. Arrows: what it tells the generator.")
plot.show(fig, alt="Four stills: points spread over the plane; they gather; a ring of points; at the end most points bunch at eight "
          "pale petals of a blue plane, and others lie strung between them.")

# %% [markdown]
# **Check your guess:** blue wherever nothing real is, and nearly white at the eight places. There real and generated points lie together, and the discriminator
# has nothing left to say. It did not become bad: ever better forgeries taught it to the end.
#
# ## What the losses do not tell
#
# > **Predict:** the points get better from turn 100 to turn 1000. Does the generator's loss fall?

# %%
turn, loss_d, loss_g, of_now, of_kept = map(torch.tensor, zip(*log, strict=True))
fig, (left, right) = plot.chart(columns=2, height=4.4)
left.axhline(2 * math.log(2), color="#b9b9b9", linestyle="--")
left.axhline(math.log(2), color="#b9b9b9", linestyle="--", label="a draw")
left.plot(turn, loss_d, label="discriminator")
left.plot(turn, loss_g, label="generator")
left.set(title="The two losses", xlabel="turn", ylabel="loss", ylim=(0, 2.5))
left.legend(ncols=3, loc="upper right")
right.plot(turn, 100 * of_now, color=plot.COLORS[4], label="generator of this moment")
right.plot(turn, 100 * of_kept, color=plot.COLORS[2], label="its running average (EMA)")
right.set(title="What we wanted to know", xlabel="turn", ylabel="points near a place, %", ylim=(0, 100))
right.legend(loc="lower right")
plot.show(fig, alt="Left: the discriminator's loss sinks a little below its dashed line, the generator's jitters a little above its own. Right: the share of points "
          "near a place rises all along, in jumps for the generator of the moment, smoothly for the running average.")

# %% [markdown]
# **Check your guess:** no. Both losses stay near a draw, 1.386 and 0.693; the generator's even rises a little, while its points get better. Each loss is
# measured against an opponent who learns, too: a chess player who always meets equals wins half of the games, beginner
# or master. So never stop a GAN, or choose one, by its loss. Measure what it makes.
#
# ## Digits, live
#
# Now pictures of 28 × 28 pixels: handwritten digits ([MNIST](https://doi.org/10.1109/5.726791)). 4,000 are for training; from 1,000 held out no network here ever learns. The same
# `train` plays; the networks now look at neighbouring pixels (they are convolutional). It goes quicker because both
# are told the **label**, which digit it should be ([Mirza and Osindero 2014](https://arxiv.org/abs/1411.1784)). Of 64 random numbers, the first ten vote for the digit; the others are the hand.
#
# And an instrument: a **classifier**, trained on real digits, that says which digit it sees, and how sure it is.

# %%
seen, held = dvlatent.load("mnist").split()
classifier = dvlatent.load("digit-classifier")
chances = classifier(held.images)  # [1000, 10]
right = (chances.argmax(dim=1) == held.labels).float().mean()
print(f"the classifier names {100 * right:.1f} % of the held-out digits rightly")


def sure(images, labels):
    """The share of pictures that the classifier names as they should be, with confidence 0.9 or more."""
    return float((classifier(images)[torch.arange(len(images)), labels] >= 0.9).float().mean())


print(f"and is sure, at 0.9 or more, of {100 * sure(held.images, held.labels):.0f} % of them")
fog = classifier(torch.zeros(1, 1, 28, 28))
print(f"a trap: grey fog is a {fog.argmax()} to it, and it is {100 * fog.max():.0f} % sure")

# %% [markdown]
# It must name something, fog included: far from what it was trained on, its confidence means nothing. So we count only digits that it names *as they were asked for*.
#
# > **Predict:** half a minute of play, each digit seen about eight times. Of how many of the drawn digits will the classifier be sure?

# %%
LIVE = TrainConfig(steps=500, batch=64, lr=0.002, discriminator_lr=0.002, penalty=0.05, ema_images=5000)
z = dvlatent.normal(range(300), 64)  # [300, 64]: the same random vectors all through
votes = z[:, :10].argmax(dim=1)  # [300]: the largest of the first ten numbers is the digit
ten, digits = z[:10], torch.arange(10)  # ten hands, and which digits to ask of them instead
torch.manual_seed(0)
pair = DigitGenerator(width=32), DigitDiscriminator(width=16)
album, log = {}, []
for step in train(*pair, seen.images, LIVE, labels=seen.labels):
    if step.index % 20 == 0:
        log.append((step.images, step.discriminator_loss, step.generator_loss, sure(step.ema(z), votes)))
    if step.index in (0, 29, 99, 199, LIVE.steps - 1):
        album[f"after {step.images:,}"] = step.ema(ten, digits)
live = step.ema
print(f"the classifier is sure of at least {25 * int(4 * sure(live(z), votes))} % of the live digits")

# %%
fig = plot.labeled_grid(torch.cat(list(album.values())), rows=list(album), columns=[f"a {digit}" for digit in range(10)],
                         caption="Each column is one random vector, each row the same generator after more digits.")  # fmt: skip
plot.show(fig, alt="Five rows of ten: grey fog, white blobs, broken strokes, half digits; in the last row most can be read, some are frayed. "
          "Down a column a digit takes shape.")

# %%
images_seen, loss_d, loss_g, sure_of = map(torch.tensor, zip(*log, strict=True))
fig, (left, right) = plot.chart(columns=2, height=4.4)
left.plot(images_seen, loss_d, label="discriminator")
left.plot(images_seen, loss_g, label="generator")
left.set(title="The two losses", xlabel="digits seen", ylabel="loss", ylim=(0, 2.5))
left.legend()
right.plot(images_seen, 100 * sure_of, color=plot.COLORS[2])
right.set(title="What the classifier says", xlabel="digits seen", ylabel="named as asked, surely, %", ylim=(0, 100))
plot.show(fig, alt="Left: the generator's loss leaves the chart once, early; then both go up and down around the same height. Right: the share of digits named "
          "as asked rises to more than four in five.")

# %% [markdown]
# Again, the left half does not tell when to stop.
#
# ## Next to a long training
#
# The same networks, a little wider, played for a long time (`docs/MODELS.md` has the command). We measure how often the classifier is **sure**; how **evenly** the ten digits appear (the entropy of what it names, 1 when all
# are equally frequent); and the **Fréchet distance** ([Heusel et al. 2017](https://arxiv.org/abs/1706.08500)) of drawn from real digits, as clouds of the classifier's features: 0 for equal clouds.

# %%
shipped = dvlatent.load("digits")
pictures = torch.cat([live(ten, digits), shipped(ten, digits), held.images[50::100]])
fig = plot.labeled_grid(pictures, rows=["live", "long\ntraining", "real"], columns=[f"a {digit}" for digit in range(10)])
plot.show(fig, alt="Three rows of the digits 0 to 9: live ones, some with frayed or doubled strokes; long-trained ones with clean strokes; real ones.")


# %%
many = torch.randn(5000, 64, generator=torch.Generator().manual_seed(0))
real_digits = dvlatent.load("mnist").images


def draw(network):
    """5,000 digits."""
    with torch.no_grad():
        return torch.cat([network(part) for part in many.split(500)])


# %%
def cloud(images):
    """Where pictures lie among the classifier's 128 features."""
    return torch.cat([classifier.features(part) for part in images.split(500)])


def measure(images):
    """Sure, even, and the Fréchet distance of 2,500 of them from 2,500 real ones."""
    named = torch.cat([classifier(part) for part in images.split(500)]).argmax(dim=1).bincount(minlength=10) / len(images)
    even = -torch.special.xlogy(named, named).sum() / math.log(10)
    return sure(images, many[:, :10].argmax(dim=1)), float(even), frechet(first, cloud(images[:2500])).value


# %%
halves = torch.randperm(5000, generator=torch.Generator().manual_seed(0)).view(2, 2500)
first, second = cloud(real_digits)[halves]  # the distance shrinks with the number of samples: 2,500 against 2,500, every time
fakes = {"live": draw(live), "long training": draw(shipped)}
scores = {name: measure(images) for name, images in fakes.items()}
clear, even, far = scores["long training"]
print(f"long training: sure of {100 * clear:.0f} %, evenness {even:.2f}, Fréchet distance {far:.0f}; the other 2,500 real ones {frechet(first, second).value:.0f}")
clear, even, far = scores["live"]
print(f"live: sure of at least {25 * int(4 * clear)} %, evenness {even:.1f}, Fréchet distance at least {min(20, int(far))}")

# %% [markdown]
# ## Almost indistinguishable?
#
# The classifier only says that the digits are readable. Can they be *told from real ones*? The fairest way to ask: a **fresh** discriminator that has never played,
# trained on half of the pictures and tested on the others. 50 % is guessing. The control: real against real.
#
# > **Predict:** how often will it be right about the live digits, and how often about the long-trained ones?


# %%
def distinguish(real, fake, steps=120):
    """Train a fresh discriminator on half of both; its accuracy on the other half."""
    torch.manual_seed(0)
    fresh, rng = DigitDiscriminator(width=16, classes=0, group=1), torch.Generator().manual_seed(0)
    adam, half = torch.optim.Adam(fresh.parameters(), 0.002), min(len(real), len(fake)) // 2
    for _ in range(steps):
        rows = torch.randint(half, (64,), generator=rng)
        loss = F.softplus(-fresh(real[rows])).mean() + F.softplus(fresh(fake[rows])).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    with torch.no_grad():
        right = torch.cat([fresh(real[half : 2 * half]) > 0, fresh(fake[half : 2 * half]) < 0])
    return float(right.float().mean())


# %%
mixed = real_digits[torch.randperm(5000, generator=torch.Generator().manual_seed(0))]
rivals = {"live": fakes["live"][:2000], "long training": fakes["long training"][:2000], "real": mixed[2000:4000]}
accuracy = {name: distinguish(mixed[:2000], pictures) for name, pictures in rivals.items()}
right = [100 * accuracy[name] for name in ("live", "long training", "real")]
print(f"right about live digits at least {min(70, int(right[0]))} % of the time, about long-trained and real ones at most {max(65, math.ceil(max(right[1:])))} %")

# %%
fig, axes = plot.chart(height=3.4)
bars = axes.barh(list(accuracy), [100 * value for value in accuracy.values()], color=[plot.COLORS[at] for at in (1, 2, 0)], height=0.6)
axes.bar_label(bars, fmt="%.0f %%", padding=6)
axes.axvline(50, color="#5c5c5c", linestyle="--")
axes.set(title="How often a fresh discriminator is right, about digits it has not seen", xlabel="%  (50 is guessing)", xlim=(0, 105))
axes.invert_yaxis()
plot.show(fig, alt="Three bars: about live digits the fresh discriminator is right about four times in five; the bars of long-trained and of real ones end just "
          "beyond the dashed line of guessing, the long-trained one's a little later.")

# %% [markdown]
# **Check your guess:** the live digits are found out most of the time, the long-trained ones only a little more often than by guessing. That is "almost", in
# a number. It depends on who looks: you, at a glance; the classifier, which only asks for
# readable digits; or a network with nothing else to do. Only the last is a hard test, the **two-sample test** by a classifier
# ([Lopez-Paz and Oquab 2017](https://arxiv.org/abs/1610.06545)).
#
# And has it learned to draw, or only by heart? If it copied, each drawn digit would have a twin among the 4,000.

# %%
def nearest(images):
    """The nearest training digit of each picture, and how far it is, pixel by pixel."""
    distance, which = torch.cdist(images.flatten(1), seen.images.flatten(1)).min(1)
    return seen.images[which], distance


samples = fakes["long training"][:500]
twins, gap = nearest(samples)
_, usual = nearest(held.images)
print(f"distance to the nearest training digit: drawn {gap.median():.1f}, held-out real ones {usual.median():.1f}")
fig = plot.labeled_grid(torch.cat([samples[:10], twins[:10]]), rows=["drawn", "nearest of\nthe 4,000"], columns=[""] * 10)
plot.show(fig, alt="Two rows of ten digits. Below each drawn digit, the nearest real one: the same digit, alike in slant and width, with strokes that differ a little.")

# %% [markdown]
# ## Same vector, same digit
#
# After the training only the random vector is left to choose. A generator is a plain function: the same vector gives the same digit, today and tomorrow,
# and neighbouring vectors give neighbouring digits. So you can walk.

# %%
check("same vector, same digit", shipped(z[:5]), shipped(dvlatent.normal(range(5), 64)))
w = shipped.mapping(z)  # [300, 64]: the votes are counted, so that nearby vectors are nearby digits
rng = torch.Generator().manual_seed(1)
near, here = shipped.draw(w + 0.01 * torch.randn(300, 64, generator=rng)), shipped.draw(w)
ratio = (near - here).abs().mean() / (here - here.roll(1, dims=0)).abs().mean()
print(f"a hundredth of a random vector more changes the picture by about {100 * ratio:.0f} % of what another vector would")

# %%
stops = shipped.mapping(dvlatent.normal([3, 11, 17, 24, 31, 38], 64))
film = shipped.draw(dvlatent.walk(stops, 48, loop=True))
plot.show_film(film, seconds=6, size_px=280, quality=70, alt="A film without an end: a digit turns into another digit, and "
               "that one into the next, without a jump.")

# %% [markdown]
# Between two clear digits there are moments that are neither. Which digit lies where? The next lesson draws that map.
#
# > **A place to stop.** Here the class ends; exercises 1 and 2 need nothing more. What follows is homework, and so is exercise 3.
#
# ## Four ways to lose the game
#
# Every GAN fails in one of these ways first. Back to the ring, where one sees it: each failure differs from the healthy game above by **one number**.
#
# > **Predict:** what happens (a) if the discriminator learns sixty times more slowly; (b) if the generator learns twenty times faster; (c) if nobody averages;
# > (d) if the discriminator gets ten turns for each one of the generator, and no penalty?


# %%
def play(**change):
    """The healthy game with some numbers changed: where 400 random vectors land, how good that is, and how restless it was."""
    config = TrainConfig(**{**HEALTHY, **change})
    *_, before, after = (step.ema(z_points).detach() if step.index >= config.steps - 2 else None for step in train(*fresh_pair(), real, config))
    return after, *quality(after), float((after - before).norm(dim=1).mean())


short = {"discriminator_steps": 10, "steps": 200}  # ten turns of the discriminator for each of the generator: so fewer turns
health = play()
results = {
    "(a) mode collapse": (play(discriminator_lr=0.0001), health),
    "(b) learning rate": (play(lr=0.06), health),
    "(c) no EMA": (play(ema_images=0), health),
    "(d) too strong": (play(**short, penalty=0), play(**short)),
}

# %%
fig, axes = plot.chart(2, 4, height=6.4)
numbers = ["discriminator_lr 0.0001", "lr 0.06", "ema_images 0", "penalty 0"], ["discriminator_lr 0.006", "lr 0.003", "ema_images 5000", "penalty 0.03"]
for column, (name, pair) in enumerate(results.items()):
    for row, (points, reached, near, _) in enumerate(pair):
        axes[row, column].plot(*centers.T, "o", color="#cfcfcf", markersize=26)
        axes[row, column].plot(*points.T, "o", color=plot.COLORS[1 - row], markersize=3, alpha=0.6)
        axes[row, column].set(xlim=(-3, 3), ylim=(-3, 3), xticks=[], yticks=[], xlabel=f"{numbers[row][column]}\n{reached} places, {100 * near:.0f} % near")
        axes[row, column].set_title(name if row == 0 else "cured", fontsize=14)
plot.show(fig, alt="Two rows of four rings. Above: a thin streak in the middle, a small heap in the middle, a ring through all places, an arc over half of them. "
          "Below: rings through all eight places, with points between them; the last has many points inside.")

# %%
(slow, _), (fast, _), (raw, smooth), (strong, tamed) = results.values()
for name, (failed, cured) in {"(a)": (slow, smooth), "(b)": (fast, smooth), "(d)": (strong, tamed)}.items():
    print(f"{name} reaches at most {3 * (failed[1] // 3) + 2} of 8 places; cured, {cured[1]}")
print(f"(c) without the average, points move at least {min(20, int(raw[3] / smooth[3]))} times as far in a turn")

# %% [markdown]
# **Check your guess:**
#
# - **(a) Mode collapse.** A slow discriminator takes long to notice that everything lands on one spot. When it wakes up,
#   the whole heap moves on (the mean of its travels lies in the middle, where nothing is). Cure: a discriminator that keeps up.
# - **(b) The learning rate.** Each step of the generator overshoots what the discriminator could tell it. Cure: smaller steps.
# - **(c) No EMA.** The game never comes to rest, it circles. One picture does not show it, the way of the points from turn to turn does. The mean of
#   many moments is what they circle around, and costs nothing: the training is the same.
# - **(d) A discriminator too strong.** With ten turns for one, and nothing to keep its gradient small, it wins so clearly that far from
#   the real points its opinion is flat: "generated", everywhere alike. No gradient, no hint. Cure: the penalty.
#   It brings all places back, and pays: after 200 turns, fewer points lie near one than in the failure.
#
# ## Exercises
#
# Replace `...`, run the cell, read the hint.

# %% [markdown]
# ### Exercise 1: a draw
# A discriminator gives every picture the score 0, real or not. What is its loss? Compute it by `discriminator_loss`, or in your head.

# %% tags=["exercise"]
draw_loss = ...  # a number
check("exercise 1", draw_loss, 2 * math.log(2), tol=1e-3, hint="a score of 0 means 50 %; there are two surprises, each ln 2")

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# draw_loss = float(discriminator_loss("non-saturating", torch.zeros(1), torch.zeros(1)))
# ```
#
# 1.386: the dashed line in the figure of the two losses.
# </details>

# %% [markdown]
# ### Exercise 2: the best discriminator
# Real numbers lie around −1, generated ones around 1, both with spread 1: then `ln(p / q) = −2x`. Nobody tells this to your discriminator. Train
# `torch.nn.Linear(1, 1)`, a straight line, by the discriminator's loss, and see whether it finds out.


# %% tags=["exercise"]
def best_discriminator(real, fake):
    """Two columns of numbers, [n, 1] each -> the trained network."""
    ...  # your lines: the network, Adam with learning rate 0.05, 300 turns


crowd = torch.randn(2, 10_000, 1, generator=torch.Generator().manual_seed(0)) + torch.tensor([-1.0, 1.0]).view(2, 1, 1)
places = torch.tensor([[-2.0], [0.0], [2.0]])
hint = "softplus(−s) for real ones, softplus(s) for generated ones; then zero_grad, backward, step"
check("exercise 2", best_discriminator, lambda f: float((f(*crowd)(places) + 2 * places).abs().max()) < 0.4 or hint)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def best_discriminator(real, fake):
#     network = torch.nn.Linear(1, 1)
#     adam = torch.optim.Adam(network.parameters(), 0.05)
#     for _ in range(300):
#         loss = F.softplus(-network(real)).mean() + F.softplus(network(fake)).mean()
#         adam.zero_grad()
#         loss.backward()
#         adam.step()
#     return network
# ```
#
# Statistics calls this logistic regression.
# </details>

# %% [markdown]
# ### Exercise 3: heal it
# Game (d) again: ten turns against one, no penalty, places lost. Heal it by another number than the penalty: any of `HEALTHY`, if at least 7 of 8 places are reached
# by the generator that `play` returns. There is more than one answer.

# %% tags=["exercise"]
sick = {**short, "penalty": 0}
remedy = ...  # for example {"batch": 512}


def healed(change):
    if len(change) != 1 or "penalty" in change:
        return "change exactly one number, and not the penalty"
    reached = play(**{**sick, **change})[1]
    return reached >= 7 or f"{reached} of 8 places"


check("exercise 3", remedy, healed)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# remedy = {"discriminator_lr": 0.001}
# ```
#
# A slower discriminator stays within sight of its opponent. So does one with fewer turns: `{"discriminator_steps": 2}`.
# </details>

# %% [markdown]
# ### An open question
# A company publishes a detector of generated pictures, right 99 times in 100. What can the makers of generators do with it? Should it have stayed secret?

# %% [markdown]
# ## The answer
#
# **Question:** do two networks with opposite tasks make each other better, until what one of them draws can hardly be told from what is real?
#
# **Answer:** yes, if neither wins too early. Points found all eight places of a ring though the generator never saw one, and half a minute was enough
# for digits of which a classifier is sure three times in four, or more. The losses only say who is ahead, not how good the pictures are. "Hardly told apart" is a matter
# of who looks: the classifier can nearly always read the digits, while a fresh discriminator is right a little more often than by guessing.
#
# What this does not show: that faces are as easy. The game is the same, with R1 and EMA; the networks are much larger, and play for weeks.
#
# ## What next
#
# A vector is a digit, and near vectors are alike. [02 · A map of digits](02_mnist_latent_map.ipynb) puts them all on one plane.
