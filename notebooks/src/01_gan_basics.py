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
# - play the game by hand on points of the plane, where you can see both networks think,
# - teach a network to draw digits in half a minute, and compare it with one that was taught for long,
# - read the two losses, and find out what they do not tell,
# - break the game in four classic ways and repair it each time by changing one number,
# - measure what "almost indistinguishable" means.
#
# **Before this:** [00 · Start here](00_start_here.ipynb)
#
# **Time:** 80 s of computing on two CPU cores, 45 minutes of yours
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

import dvlatent
from dvlatent.gan import data
from dvlatent.gan.digits import DigitDiscriminator, DigitGenerator
from dvlatent.gan.points import PointDiscriminator, PointGenerator
from dvlatent.gan.train import TrainConfig, discriminator_loss, generator_loss, train
from dvlatent.lessons import diagrams, plot
from dvlatent.lessons.teach import check
from dvlatent.metrics.features import frechet

# %% [markdown]
# ## The game
#
# A **generator** is given a **random vector**, a row of random numbers, and makes something of it. A **discriminator** (some call it critic) is
# given something and says how real it looks: one number, above 0 for "real", below 0 for "generated". They have opposite tasks. The discriminator
# learns to tell real things from generated ones. The generator never sees a real thing: it learns only from the discriminator, how to change what
# it makes so that the discriminator says "real". That is a **GAN**, a generative adversarial network (Goodfellow et al. 2014).
#
# Pictures have thousands of numbers, and nobody can look into such a game. So we begin with things that have two numbers: points of the plane.
# What is "real" is a ring of eight places. Both networks are the smallest that will do: three layers of 64.

# %%
real = data.ring(2000)  # [2000, 2]
z_points = dvlatent.normal(range(400), 2)  # [400, 2]: the same random vectors all through
torch.manual_seed(0)
generator, discriminator = PointGenerator(), PointDiscriminator()

fig, (left, right) = plot.chart(columns=2, height=5.6)
diagrams.arena(left, discriminator, real[:400], z_points[:0], "What is real")
diagrams.arena(right, discriminator, real[:0], generator(z_points).detach(), "What an untrained generator makes of random vectors", arrows=0)
plot.show(fig, alt="Left: grey points in eight clusters on a ring. Right: dark points of the untrained generator, "
          "all in one small heap in the middle.")

# %% [markdown]
# ## One turn, by hand
#
# The discriminator's score `s` becomes a probability of "real" by `σ(s) = 1 / (1 + e⁻ˢ)`. Both losses are surprises, that is, minus the logarithm of a probability:
#
# ```text
# discriminator:  − log σ(s real)  −  log(1 − σ(s generated))      be sure, and right, about both
# generator:      − log σ(s generated)                             have the discriminator say "real"
# ```
#
# > **Predict:** when the discriminator has no idea any more and says 50 % to everything, how large are the two losses?

# %%
score_real, score_fake = discriminator(real[:64]), discriminator(generator(z_points[:64]))
by_hand = -torch.sigmoid(score_real).log().mean() - (1 - torch.sigmoid(score_fake)).log().mean()
check("the discriminator's loss by hand is the library's", by_hand, discriminator_loss("non-saturating", score_real, score_fake))
by_hand = -torch.sigmoid(score_fake).log().mean()
check("the generator's loss by hand is the library's", by_hand, generator_loss("non-saturating", score_fake))

print(f"at a draw: discriminator 2 ln 2 = {2 * math.log(2):.3f}, generator ln 2 = {math.log(2):.3f}")

# %% [markdown]
# A turn is two small steps: one of the discriminator, one of the generator. Here is the whole game; `Adam` is the rule that turns gradients into steps.


# %%
def play_by_hand(generator, discriminator, turns):
    """The non-saturating game of Goodfellow et al. (2014), with nothing added."""
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
# `train` is a Python iterator: you write the `for`, look at each `step` and stop when you like. It adds two things to the game above, which you will
# break on purpose later: a **penalty** on a discriminator whose gradient is too steep (R1, Mescheder et al. 2018), and a running average of the
# generator (**EMA**, exponential moving average), the one that is kept.
#
# ## Watch them play
#
# In the film below, the colour is the discriminator's opinion of every point of the plane: orange where it would say "real", blue where "generated", white
# where it does not know. Grey points are real, dark ones generated; the arrows show where the discriminator's gradient sends them.
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
print(f"places reached at the end: {reached} of 8; more than half of the points are near one: {near > 0.5}")

# %%
plot.show_film(torch.cat(frames), seconds=8, size_px=420, quality=60, alt="A film: dark points leave a heap in the "
               "middle, spread over a ring, and gather at its eight places, which turn into pale petals on blue.")

# %%
fig = plot.faces(torch.cat(stills), columns=2, caption="Colour: the discriminator's opinion. Arrows: what it tells the generator.")
plot.show(fig, alt="Four stills: points spread over the plane; they gather; a ring of points; at the end most points bunch at eight "
          "pale petals of a blue plane, and others lie strung between them.")

# %% [markdown]
# **Check your guess:** blue wherever nothing real is, and nearly white at the eight places. There real and generated points lie together, and a discriminator that
# meets a good generator has nothing left to say. It is not that the discriminator became bad: it was taught to the end, by better and better forgeries.
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
plot.show(fig, alt="Left: both losses stay near the dashed lines of a draw. Right: the share of points near a place rises all "
          "along, smoothly for the running average.")

# %% [markdown]
# **Check your guess:** no. Both losses stay near a draw, 1.39 and 0.69; the generator's even rises a little, while its points get better and better. Each loss is
# measured against an opponent who learns at the same time: a chess player who always plays against equals wins half of the games, as a
# beginner and as a master. So never stop a GAN, or choose one, by its loss. Measure what it makes.
#
# ## Digits, live
#
# Now pictures of 28 × 28 pixels: handwritten digits (MNIST). 4,000 are for training; 1,000 are held out, no network here ever learns from them. The same
# `train` plays the same game; the networks are convolutional now, which means that they look at neighbouring pixels. One thing makes it quicker: both
# networks are told the **label**, which digit it should be (Mirza and Osindero 2014). Of the 64 random numbers, the first ten vote for the digit, the others say in which hand.
#
# And an instrument: a **classifier** that says which digit it sees, and how sure it is. It was trained on real digits, and knows nothing of the game.

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
# It must name something, fog included: outside what it was trained on, its confidence means nothing. So we shall count only digits that it names *as they were asked for*.
#
# > **Predict:** half a minute of play, in which each digit is seen about ten times. Of how many of the drawn digits will the classifier be sure?

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
print(f"the classifier is sure of at least 80 % of the live digits: {sure(live(z), votes) >= 0.8}")

# %%
fig = plot.labeled_grid(torch.cat(list(album.values())), rows=list(album), columns=[f"a {digit}" for digit in range(10)],
                         caption="Each column is one random vector, each row the same generator after more digits.")  # fmt: skip
plot.show(fig, alt="Five rows of ten: grey fog at first, then blobs, strokes, and in the last row clear digits from 0 to 9. "
          "Down a column the digit takes shape.")

# %%
images_seen, loss_d, loss_g, sure_of = map(torch.tensor, zip(*log, strict=True))
fig, (left, right) = plot.chart(columns=2, height=4.4)
left.plot(images_seen, loss_d, label="discriminator")
left.plot(images_seen, loss_g, label="generator")
left.set(title="The two losses", xlabel="digits seen", ylabel="loss", ylim=(0, 2.5))
left.legend()
right.plot(images_seen, 100 * sure_of, color=plot.COLORS[2])
right.set(title="What the classifier says", xlabel="digits seen", ylabel="named as asked, surely, %", ylim=(0, 100))
plot.show(fig, alt="Left: both losses go up and down around the same height all the time. Right: the share of digits named "
          "as asked rises to more than four in five.")

# %% [markdown]
# The same again: from the left half nobody could tell when to stop.
#
# ## Next to a long training
#
# The same two networks, a little wider, played for a long time; the result is a file of the library (`docs/MODELS.md` has the command). Let us put both side by side,
# and measure them by three numbers: how often the classifier is **sure**; how **evenly** the ten digits appear (the entropy of what it names, 1 when all
# ten are equally frequent); and the **Fréchet distance** between 5,000 drawn and 5,000 real digits, as clouds of the classifier's features (0 for equal clouds).

# %%
shipped = dvlatent.load("digits")
pictures = torch.cat([live(ten, digits), shipped(ten, digits), held.images[50::100]])
fig = plot.labeled_grid(pictures, rows=["live", "long\ntraining", "real"], columns=[f"a {digit}" for digit in range(10)])
plot.show(fig, alt="Three rows of the digits 0 to 9: live ones with some frayed strokes, long-trained ones clear, real ones.")


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
    """Sure, even, and Fréchet distance to the real ones."""
    named = torch.cat([classifier(part) for part in images.split(500)]).argmax(dim=1).bincount(minlength=10) / len(images)
    even = -torch.special.xlogy(named, named).sum() / math.log(10)
    return sure(images, many[:, :10].argmax(dim=1)), float(even), frechet(cloud(real_digits), cloud(images)).value


# %%
fakes = {"live": draw(live), "long training": draw(shipped)}
scores = {name: measure(images) for name, images in fakes.items()}
print(f"long training: sure of at least 95 %: {scores['long training'][0] >= 0.95}; evenness {scores['long training'][1]:.2f}")
halves = torch.randperm(5000, generator=torch.Generator().manual_seed(0)).view(2, 2500)
first, second = cloud(real_digits)[halves]  # the distance shrinks with the number of samples: 2,500 against 2,500, both times
fake = frechet(first, cloud(fakes["long training"][:2500])).value
print(f"Fréchet distance to 2,500 real digits: long training {fake:.0f}, the other 2,500 real ones {frechet(first, second).value:.0f}")
print(f"the live one's is more than four times as large: {scores['live'][2] > 4 * scores['long training'][2]}")

# %% [markdown]
# ## Almost indistinguishable?
#
# The classifier only says that the digits are readable. Can they be *told from real ones*? The fairest way to ask: a **fresh** discriminator that has never played,
# trained on half of the pictures and tested on the other half. 50 % is guessing: indistinguishable. As a control it also gets real against real.
#
# > **Predict:** how often will the fresh discriminator be right about the live digits, and how often about the long-trained ones?


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
print(f"real from real: within 5 % of guessing: {abs(accuracy['real'] - 0.5) < 0.05}")
print(f"live digits are told from real ones more easily than long-trained ones: {accuracy['live'] > accuracy['long training']}")

# %%
fig, axes = plot.chart(height=3.4)
bars = axes.barh(list(accuracy), [100 * value for value in accuracy.values()], color=[plot.COLORS[at] for at in (1, 2, 0)], height=0.6)
axes.bar_label(bars, fmt="%.0f %%", padding=6)
axes.axvline(50, color="#5c5c5c", linestyle="--")
axes.set(title="How often a fresh discriminator is right, about digits it has not seen", xlabel="%  (50 is guessing)", xlim=(0, 105))
axes.invert_yaxis()
plot.show(fig, alt="Three bars: the fresh discriminator is right about live digits about four times in five, about long-trained "
          "ones little more often than by guessing, and it guesses at real against real.")

# %% [markdown]
# **Check your guess:** the live digits are found out most of the time, the long-trained ones only a little more often than by guessing. That is what "almost" means, in
# a number; a fresh discriminator with more practice would find out more. "Almost indistinguishable" also depends on who looks: you, at a glance; the classifier, which only asks for
# readable digits; or a network with nothing else to do. Only the last one is a hard test, and a name for it is the **two-sample test** by a classifier
# (Lopez-Paz and Oquab 2017).
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
plot.show(fig, alt="Two rows of ten digits. Below each drawn digit, the nearest real one: the same digit, another hand.")

# %% [markdown]
# ## Four ways to lose the game
#
# Every GAN you will ever train fails in one of these ways first. Back to the ring, where failures are seen at a glance; the healthy numbers are those from above.
# Each failure differs from health by **one number**.
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
(collapsed, _), (fast, _), (raw, smooth), (strong, tamed) = results.values()
print(f"(a) a slow discriminator: more than 4 of 8 places reached: {collapsed[1] > 4}; cured, all 8: {smooth[1] == 8}")
print(f"(b) a fast generator: more than 4 of 8 places reached: {fast[1] > 4}; cured, all 8: {smooth[1] == 8}")
print(f"(c) without the average, points move more than three times as far in a turn: {raw[3] > 3 * smooth[3]}")
print(f"(d) a discriminator too strong: all 8 places: {strong[1] == 8}; cured, all 8: {tamed[1] == 8}")

# %% [markdown]
# **Check your guess:**
#
# - **(a) Mode collapse.** A slow discriminator takes long to notice that everything lands on one spot. The generator has found what fools it, and stays; when the
#   discriminator wakes up, the whole heap moves on to the next spot (the average of its travels lies in the middle, where nothing is). Cure: a discriminator that keeps up.
# - **(b) The learning rate.** Each step of the generator overshoots what the discriminator could tell it, so that it is thrown from one side to the other. Cure: smaller steps.
# - **(c) No EMA.** The game never comes to rest, it circles. The generator of *this* moment is always a little off to one side; the average of many moments is where they
#   circle around. It costs nothing: the training is exactly the same.
#   One picture does not show this failure: all places are reached, and about as many points lie near them. From turn to turn it shows, see the number above.
# - **(d) A discriminator too strong.** With ten turns for each of the generator, and nothing to keep its gradient small, it wins so clearly that far from
#   the real points its opinion is flat: "generated", everywhere alike. No gradient, no hint where to go; places are lost. Cure: a penalty on its gradient.
#   It brings all places back, and pays: fewer points lie near one than in the failure, because 200 turns are few.
#
# ## Same vector, same digit
#
# When the training is over, only the random vector is left to choose. A generator is a plain function: the same vector gives the same digit, today and tomorrow.
# And neighbouring vectors give neighbouring digits. So you can walk.

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
# Between a clear digit and the next there are moments that are neither. Where does which digit lie, and who is whose neighbour? That is a map, and the next lesson draws it.
#
# ## Exercises
#
# Replace `...`, run the cell, read the hint. Three of them, from easy to open.

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
# ### Exercise 2: the other loss
# The **hinge** loss is another rule of the same game (Lim and Ye 2017). Its discriminator is content as soon as a real score is above 1 and a generated one below −1; until then it
# pays what is missing. Write it, from two rows of scores.


# %% tags=["exercise"]
def hinge(score_real, score_fake):
    ...  # mean of what is missing for real, plus mean of what is missing for generated


def graded(mine):
    return all(torch.isclose(mine(a, b), discriminator_loss("hinge", a, b)) for a, b in (score_trial, score_trial.flip(0))) or "try F.relu(1 - score)"


score_trial = torch.tensor([[2.0, 0.5, -1.0], [-3.0, 0.0, 1.0]])
check("exercise 2", hinge, graded)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def hinge(score_real, score_fake):
#     return F.relu(1 - score_real).mean() + F.relu(1 + score_fake).mean()
# ```
#
# `train(..., TrainConfig(loss="hinge"))` plays by it.
# </details>

# %% [markdown]
# ### Exercise 3: heal it
# This game is sick: its discriminator takes ten turns for each one of the generator, without a penalty, and half of the places are lost. Above, the penalty healed it. Heal it
# by changing one other number; any number of `HEALTHY` will do, if it works. At least 7 of 8 places, reached by the generator that `play` returns. There is more than one answer.

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
# A discriminator that learns more slowly stays within sight of its opponent, in spite of its ten turns. Fewer turns do it as well: `{"discriminator_steps": 2}`.
# </details>

# %% [markdown]
# ## The answer
#
# **Question:** do two networks with opposite tasks make each other better, until what one of them draws can hardly be told from what is real?
# **Answer:** yes, if neither wins too early. Points found all eight places of a ring though the generator never saw one of them, and half a minute was enough
# for digits of which a classifier is sure four times in five. The losses do not tell how good it is: they only say who is ahead. "Hardly told apart" is a matter
# of who looks: readable for a classifier nearly always, while a fresh discriminator is right somewhat more often than by guessing. Four failures, four cures, one number each.
#
# What this does not show: that faces are as easy. It is the same game with the same losses, a penalty and an EMA, on networks a hundred times larger and for weeks.
#
# ## What next
#
# A vector is a digit, and near vectors are alike. [02 · A map of digits](02_mnist_latent_map.ipynb) puts them all on one plane.
