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
# - run a generator backwards: find a drawn face again by hand, with nothing but a gradient,
# - see what three ways to compare two pictures see, and what each one overlooks,
# - find a real astronaut, watch her appear, make her younger and older, and paste her back into her photo,
# - measure the bargain between likeness and editability, bend the generator instead, and see where the search fails,
# - do it with your own photo, which never leaves your computer.
#
# **Before this:** [05 · Where is age?](05_finding_directions.ipynb)
#
# **Time:** 85 s of computing on two CPU cores, 45 minutes of yours
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
from dvlatent.faces.align import paste_back
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
# Whose face may one use to teach? This one: a portrait that NASA took of the astronaut Eileen Collins, in the public domain.
#
# The generator knows faces in one place only: eyes here, mouth there, as its training photos (FFHQ) were cut. So the first step is to find 68
# points on the face (eyes, nose, mouth, chin) and to cut out the square that puts them there, turned upright. That is **alignment**.

# %%
faces, encoder, judge = (dvlatent.load(name) for name in ("faces", "encoder", "judge"))
distance, identity = dvlatent.load("perceptual"), dvlatent.load("identity")
photo = images.from_uint8(astronaut())  # [1, 3, 512, 512]
alignment, face = dvlatent.load("aligner")(photo, size_px=256)  # where the face lies, and the face itself
print(f"photo {list(photo.shape[2:])}, a square with sides of {alignment.size_px:.0f} pixels, cut out as {list(face.shape[2:])}")
fig = plot.strip(torch.cat([images.resize(photo, 256), face]), titles=["the photo", "aligned: the cut a generator knows"])
plot.show(fig, alt="Left the portrait of an astronaut in her suit, right the square around her head, upright, with the eyes in the middle.")

# %% [markdown]
# ## A generator, backwards
#
# Forwards it is easy: a w gives a picture. Backwards there is no formula. But lesson 01 had the same trouble: nobody had a formula for the
# weights of a network either. One starts anywhere, measures the error, and walks downhill along its **gradient**. This time the weights stay
# as they are, and what moves is the w. That is **inversion**.
#
# We try it where we know the truth: on the toy face, which has 32 numbers. By hand:
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
print(f"{config.steps} steps: more than 28 dB?", bool(likeness(last.image, drawing).psnr_db[0] > 28))
fig = plot.strip(torch.cat([*stations[::10], last.image, drawing]), titles=[*(f"step {n}" for n in range(0, 50, 10)), "found", "the truth"])
plot.show(fig, alt="A cartoon face that turns, step by step, from the average face into the one that was asked for; the last two are alike.")

# %% [markdown]
# **Check your guess.** A few dozen: a search, where the survey of lesson 05 would have needed luck. (Decibels, **dB**, count the error between pixels: 20 is a
# tenth of the full range, every 6 more halve it, 30 is hard to see.)
#
# ## A faster way down
#
# Adam, the optimiser of lesson 01, creeps: this valley is long and narrow. A step to one side repaints the whole face, the same step along it
# moves an eyebrow; and with only a gradient in hand one bounces between the walls. But every step also tells how the gradient *changed*. An
# optimiser that remembers this learns the shape of the valley and steps along it: a **quasi-Newton** method (L-BFGS, 1980).
#
# > **Predict:** the same 50 looks at a picture, with such a memory. How many times smaller will the error be: twice, ten times, a thousand?

# %%
quick = list(invert(toy, drawing, InvertConfig(steps=50, space="w", initial_pixel_weight=1, mean_weight=0)))  # quasi-Newton by default
gain = float(last.parts["pixels"] / quick[-1].parts["pixels"])
print("a hundred times smaller, or more?", gain > 100)

# %%
fig, axes = plot.chart(height=4.2)
for color, (name, search) in zip(plot.COLORS, {"Adam": steps, "quasi-Newton": quick}.items(), strict=False):
    axes.semilogy([float(step.parts["pixels"]) for step in search], color=color, label=name)
axes.set(title="Fifty looks, two ways downhill", xlabel="looks at a picture", ylabel="mean squared error of the pixels")
axes.legend()
plot.show(fig, alt="Two falling curves on a logarithmic axis: Adam's flattens early, the quasi-Newton method's goes on falling by orders of magnitude.")

# %% tags=["nbval-ignore-output"]
print(f"{gain:,.0f} times smaller")

# %% [markdown]
# **Check your guess.** With the same number of looks! (`dvlatent.inversion.optimizers` has both ways on one page.) For real faces the library
# does one thing more: it has measured once, on a thousand faces, which directions of W repaint a lot and which hardly anything
# (`dvlatent.whitening`), and begins with that knowledge.
#
# ## What the loss sees
#
# For a photo, everything depends on how one compares. Three ways:
#
# - **pixels**: the mean squared difference of colours, in the picture and in smaller and smaller copies of it,
# - **perceptual**: what a network that learned to name a thousand things answers inside (lesson 03),
# - **identity**: 128 numbers by which another network tells people apart; below 0.6, it says "the same person".
#
# > **Predict:** we shift the astronaut by 8 pixels, darken her, blur her; and we take strangers. Which of the three ways takes a shifted
# > astronaut for somebody else? Which does not mind the dark?

# %%
strangers = faces.mapping(dvlatent.normal([4, 18], faces.z_dim))
with torch.no_grad():
    people = faces.preview(dvlatent.broadcast(dvlatent.truncate(strangers, toward=faces.w_mean, psi=0.7), faces.num_layers)).clamp(-1, 1)
views = {"shifted": face.roll((8, 8), (2, 3)), "darker": 0.6 * face - 0.4, "blurred": images.resize(images.resize(face, 32), 256)}
views |= {"mirrored": face.flip(3), "a stranger": people[:1], "another": people[1:]}
print(f"{'':12}{'pixels':>8}{'perceptual':>12}{'identity':>10}")
with torch.no_grad():
    for name, other in views.items():
        pixels = torch.stack([(a - b).square().mean() for a, b in zip(levels(other), levels(face), strict=True)]).mean()
        person = identity.distance(identity(other), identity(face))
        print(f"{name:12}{pixels:8.2f}{distance(other, face)[0]:12.1f}{person[0]:10.1f}")

# %%
fig = plot.strip(torch.cat([face, *views.values()]), titles=["the astronaut", *views], caption="Which of these is she?")
plot.show(fig, alt="The astronaut; shifted, darker, blurred and mirrored; and two generated strangers.")

# %% [markdown]
# **Check your guess.** Read the columns. For pixels, a mirror is nearly as bad as being somebody else and the dark not much better, while a blur that loses every
# wrinkle is nothing. The perceptual distance hardly notices the light, but minds a shift and a mirror. Identity overlooks both, and stumbles over the
# blur. All three put the strangers last, each by another margin; and each is blind somewhere. So the search adds up all three.
#
# ## A first guess, in one look
#
# Where to start? At the average face, or at an **encoder**: a small network that has seen 20,000 generated faces, *whose w we know because we
# drew them*, and has learned to tell w from the picture. One look, some milliseconds:

# %%
with torch.no_grad():
    first = encoder(face)  # [1, 512]
    guess = faces.preview(dvlatent.broadcast(first, faces.num_layers)).clamp(-1, 1)
start = likeness(guess, face, distance, identity)
print(f"the encoder's guess: {start.psnr_db[0]:.0f} dB, identity distance {start.identity[0]:.1f}")

# %% [markdown]
# > **Predict:** thirty steps from there. What comes first, and what last: colours, the shape of the hair, the person, texture?
#
# The search adds up the three ways to compare, and looks at quick previews of 256 pixels. It stays in **W**: one w of 512 numbers for all 16 layers.

# %%
began, film, history = time.perf_counter(), [guess], []
for step in invert(faces, face, InvertConfig(steps=30, space="w"), distance=distance, identity=identity, start=first):
    film.append(step.image)
    history.append({name: float(part) for name, part in step.parts.items()})
in_w = step.ws
check("in W, all layers have one w", in_w.std(dim=1), torch.zeros_like(in_w[:, 0]))

# %% [markdown]
# Then we give each layer a w of its own. That is **W+**: 16 times as many numbers. (In W+ a preview may flatter, so it looks at full renders there, and each
# step takes three times as long. `split_after=0` says: part at once.)

# %%
config = InvertConfig(steps=24, split_after=0)
for step in invert(faces, face, config, distance=distance, identity=identity, start=in_w):
    film.append(step.image)
    history.append({name: float(part) for name, part in step.parts.items()})
found, seconds = step.ws, time.perf_counter() - began
with torch.no_grad():
    portrait = images.resize(faces.synthesis(found).clamp(-1, 1), 256)
now = likeness(portrait, face, distance, identity)
print("a third less identity distance than the first guess, or better?", bool(now.identity[0] < start.identity[0] * 2 / 3))

# %% tags=["nbval-ignore-output"]
print(f"{now.psnr_db[0]:.1f} dB, identity distance {now.identity[0]:.2f}, in {seconds:.0f} s")  # the last digit differs between computers

# %%
stations = torch.cat([film[0], film[6], film[16], film[31], portrait, face])
fig = plot.strip(stations, titles=["the encoder", "step 5", "15", "30: in W", "54: in W+", "the photo"], caption="Colours first, then the hair and the person.")
plot.show(fig, alt="From the encoder's guess to the found face in five stations, with the photo at the end; each is more like the astronaut.")
plot.show_film(torch.cat(film[::2]), alt="A film of the search: a woman's face becomes, step by step, the astronaut's.")

# %%
fig, axes = plot.chart(height=4.2)
axes.axvline(31, color="0.6", linestyle="--", label="the layers part")
for color, name in zip(plot.COLORS, ("pixels", "perceptual", "identity"), strict=False):
    axes.plot([parts[name] / history[0][name] for parts in history], color=color, label=name)
axes.set(title="What the search sees", xlabel="step", ylabel="share of the distance at the start", ylim=(0, 1.1))
axes.legend()
plot.show(fig, alt="Three falling curves over fifty-four steps: pixels, perceptual distance and identity distance, each as a share of its start.")

# %% [markdown]
# **Check your guess.** Colours and outlines are there early; the perceptual distance keeps the most, for texture comes last, and some of it never. (The
# second fall begins where the layers part. The curves jump up now and then: a step that went too far, and is taken back.)
#
# She is not in there, really: this is the nearest point that could be found in fifty-four steps. Compare the collar of the suit and the
# strands of hair: what the generator has no habit of drawing, no w will draw.
#
# ## The bargain: likeness against editability
#
# W+ comes nearer to any photo. It also holds points far from all that the generator ever drew, and out there the directions of lesson 05 mean less.
# `delta_weight` (the layers toward each other) and `mean_weight` (all of them toward the average face) say how strongly the search is held back.
#
# We have one answer in W and one in W+. Walk along the straight line from the one to the other (lesson 04), and beyond. At every station: how like
# is she, and how many years does the same edit give?
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

# %%
fig, axes = plot.chart(height=4.6)
decibels, _, years, _ = zip(*bargain, strict=True)
print("in W+ more like her:", decibels[4] > decibels[0], "  in W more years:", years[0] > years[4])
axes.plot(decibels[:5], years[:5], "o-", markersize=10, color=plot.COLORS[0])
axes.plot(decibels[4:], years[4:], "o--", markersize=10, color=plot.COLORS[1])
for name, at in (("in W", 0), ("in W+", 4), ("beyond", 5)):
    axes.annotate(name, (decibels[at], years[at]), xytext=(10, 8), textcoords="offset points", size=15)
axes.set(title="The bargain, for one photo", xlabel="likeness: dB to the photo", ylabel="editability: years gained by +2 steps")
axes.margins(0.15)
plot.show(fig, alt="A curve from the answer in W to the one in W plus: likeness grows to the right, and the years that the same edit gains fall.")

# %%
rows = torch.cat([pictures[2 * at + aged] for aged in (0, 1) for at in (0, 2, 4, 5)])
columns = ["in W", "half way", "in W+", "beyond"]
fig = plot.labeled_grid(rows, rows=["found", "two steps older"], columns=columns, caption="Left: old all over. Right: like the photo, less willing to age.")
plot.show(fig, alt="Four versions of the astronaut from W to W plus and beyond; below each the same person two steps older.")

# %% [markdown]
# **Check your guess** with the years, and mind that this is one photo, and one judge. The same for more ways, with times, and for generated faces whose true w
# is known, is printed by `python benchmarks/inversion.py`.
#
# ## A third way: bend the generator
#
# In W edits mean what they say, but nobody there looks just like her. So far the generator stood still and the point moved. Now the other way round: the
# point stays where it is, in W, and a few steps of training move the *generator's own weights* until it draws her right there. That is **pivotal tuning**
# (Roich et al. 2021): lesson 01 again, with one photo for a data set. It is done on a copy.
#
# > **Predict:** fifteen steps. Will she come as near as in W+? And the age direction was found on the generator as it was: will it still age her in the bent one?

# %%
from dvlatent.inversion.tune import TuneConfig, tune

config = TuneConfig(steps=15, lr=3e-3, preview=True, locality_weight=0)  # quick: through previews
tuning = list(tune(faces, face, in_w, config, distance=distance, identity=identity))
tuned = tuning[-1].tuned
with torch.no_grad():
    check("a copy was bent, and our generator is what it was", faces.preview(in_w), tuning[0].image)
    bent = [images.resize(tuned.synthesis(older.move(in_w, amount)).clamp(-1, 1), 256) for amount in (0, 2)]
near, before = likeness(bent[0], face), likeness(pictures[0], face)
print("three decibels nearer, with the same w?", bool(near.psnr_db > before.psnr_db + 3))

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
fig = plot.labeled_grid(grid, rows=["found", "two steps older"], columns=columns, caption="Right: the point of the second column, drawn by a bent generator.")
plot.show(fig, alt="The photo; the astronaut in W, with redder hair and blue eyes; in W plus; in W by the tuned generator, with her own brown eyes; below each of the three an old woman with fair hair.")
gained = judge(bent[1])[0, 0] - judge(bent[0])[0, 0]
person, other = (identity.distance(identity(old), identity(face)) for old in (bent[1], pictures[1]))
print("fifteen years gained, or more?", bool(gained > 15), "  the old woman more like her than the one in W?", bool(person < other))

# %% [markdown]
# **Check your guess.** As near as in W+, with a single w, and the direction still works. Mind the ages, though: in W she was judged ten years younger than in her photo, so the
# same two steps gain more *years* there; yet both old women are judged about equally old, and the bent one stays more like her.
#
# The price is not in the picture: a generator of eight million numbers for one photo, good for nobody else. (`TuneConfig()` as it is takes longer, on full
# renders, and also keeps the neighbours' faces as they were.)
#
# ## Younger, older, smiling: and back into the photo
#
# Now the reason for all this. She has ws, so every formula of lesson 05 applies to her. We strike the bargain three quarters of the way from W to W+:

# %%
smile, her = dvlatent.load("smile-direction"), line[3]
edits = {"younger": -1.5 * older, "as found": 0 * older, "older": 1.5 * older, "much older": 2.2 * older, "no smile": -2 * smile}
with torch.no_grad():
    people = torch.cat([faces.synthesis(edit(her)) for edit in edits.values()]).clamp(-1, 1)  # [5, 3, 1024, 1024]
    ages = judge(people)[:, 0]
fig = plot.strip(people, titles=[f"{name}\njudged {years:.0f}" for name, years in zip(edits, ages.tolist(), strict=True)])
plot.show(fig, alt="The astronaut five times: younger, as found, older, much older, and without her smile, each with the age the judge perceives.")
print("judged to grow older from left to right:", bool((ages[:4].diff() > 0).all()))

# %% [markdown]
# The aligned square remembers where it came from. Pasted back with a soft edge, the rest of the photo stays as it was, bit by bit:

# %%
results = torch.cat([photo, *(paste_back(photo, people[i : i + 1], alignment) for i in (0, 3))])
same = (results[1:] == photo).all(dim=1)  # [2, 512, 512]
print(f"{100 * same.float().mean():.0f} % of the photo's pixels are untouched")
fig = plot.strip(results, titles=["the photo", "younger", "much older"], caption="Only the square around the face has changed.")
plot.show(fig, alt="The astronaut's whole portrait three times: as it was, with a younger face, and with a much older one.")

# %% [markdown]
# ## How long did that take?

# %% tags=["nbval-ignore-output"]
print(f"Fifty-four steps for one photo took {seconds:.0f} s on this computer.")
print(f"A minute of video has 1,800 frames: {1800 * seconds / 3600:.1f} hours.")

# %% [markdown]
# And that for one answer. A filter on a phone answers at once, on every photo. It cannot work like this. *What it does instead is
# lesson 07.*
#
# ## Where the search fails
#
# The training photos showed upright faces, mostly free of hats and hands. So let us draw a hat, lay a hand over the mouth, and turn a head on its side;
# all on a generated face, which the generator *can* draw.
#
# > **Predict:** what will it make of each of the three?

# %%
ground = torch.stack(torch.meshgrid(torch.arange(256.0), torch.arange(256.0), indexing="ij"))  # rows and columns
y, x = ground
person = views["another"]
hat = ((y < 78) & ((x - 128).abs() < 78)) | (((y - 80).abs() < 9) & ((x - 128).abs() < 112))
fingers = [((x - 60 - 22 * n).abs() < 9) & (y > 172 - 6 * (n % 3)) for n in range(5)]
hand = torch.stack([*fingers, (y > 215) & (x > 45) & (x < 165)]).any(dim=0)
trouble = {
    "a hat": torch.where(hat, torch.tensor([-0.9, -0.6, 0.1])[:, None, None], person),
    "a hand": torch.where(hand, torch.tensor([0.55, 0.15, -0.05])[:, None, None], person),
    "on its side": person.rot90(1, (2, 3)),
}

# %%
hard = torch.cat(list(trouble.values()))
with torch.no_grad():
    begin = encoder(hard)
*_, step = invert(faces, hard, InvertConfig(steps=10, space="w"), distance=distance, identity=identity, start=begin)
back = step.image.clamp(-1, 1)
print("hardest to draw:", list(trouble)[int(likeness(back, hard).psnr_db.argmin())])
fig = plot.labeled_grid(torch.cat([hard, back]), rows=["shown", "found"], columns=list(trouble), caption="It answers every question with what it knows.")
plot.show(fig, alt="A face with a drawn hat, with a drawn hand, and on its side; below: a felt hat, no hand at all, and somebody else, upright.")

# %% [markdown]
# **Check your guess.** Its training photos had a few hats: so the flat drawing becomes something like felt, which nobody showed it. They had hardly any hands: so
# it takes the hand away and *invents* a mouth behind it. And of a lying head it makes somebody else altogether, upright: no w at all draws one that lies. (So will it with profiles.
# Aligning first turns heads upright, but nothing turns a profile to the front.)
#
# It never says "I do not know this". The answer is as plausible as the generator can make it, and just for that reason not always *true*: whose smile was that behind the
# hand? The same holds for scars, for make-up, and for every kind of people whom the training photos show seldom. Lesson 11 asks whom.
#
# ## Your own photo
#
# Everything here runs on your computer: the photo is read from your disk, and nothing is sent anywhere. (On Colab "your computer" is a machine of
# Google's: then it does leave yours.) Use your own face, or the face of somebody who said yes to exactly this. For a picture from
# your webcam, save one with your camera's own program first.

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
# The library rounds to whole bytes first, as a saved picture would be: that is the last tenth of a decibel.
# </details>

# %% [markdown]
# ### Exercise 2: hold it back afterwards
# `found` has a w for each layer. Write `held(ws, t)` that pulls the layers toward their common mean: t = 1 leaves them, 0 gives the same w
# for all. (Then draw `faces.preview(older.move(held(found, 0.5), 2))`: what did the bargain give, and what did it take?)


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
# `delta_weight` does the same while searching, where the picture can still answer.
# </details>

# %% [markdown]
# ### Exercise 3: would she have been found without the encoder?
# Search for the toy face of above from two starts: the average face (that was `last`), and `stranger` (`start=stranger`), with the same settings, `last.config`. Give the
# ratio of their last losses, stranger by average. (On real photos the start decides far more.)

# %% tags=["exercise"]
ratio = ...  # one number
stranger = dvlatent.truncate(toy.mapping(dvlatent.normal(8, toy.z_dim)), toward=toy.w_mean, psi=0.7)
check("exercise 3", ratio, lambda r: abs(r - [*invert(toy, drawing, last.config, start=stranger)][-1].loss / last.loss) < 0.01 or "the last step's loss from there / last.loss")

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# *_, other = invert(toy, drawing, last.config, start=stranger)
# ratio = float(other.loss / last.loss)
# ```
#
# Downhill from everywhere leads into the valley where one began.
# </details>

# %% [markdown]
# ## The answer
#
# **Question:** can a space of people who never lived hold somebody who does, and what does it cost to find her?
#
# **Answer:** nearly. No point of it *is* her; but one is near enough that the network for faces calls it the same person, and that one can be
# made older, younger and serious by the same vectors as any stranger. It costs a search by gradient, dozens of steps even from a good first guess, every one of
# them a walk through the whole generator and back; and a bargain, for the nearer the point is to the photo, the farther it lies from where edits mean what they say. And what
# the generator never learned to draw, it explains away.
#
# ## What next
#
# A search for every frame is no filter. Lesson 07 has the plot twist: pairs of *generated* faces, before and after, train a
# fast network that needs no search at all. The file that came out of this lesson's command is good for
# [05](05_finding_directions.ipynb)'s directions and [04](04_averaging_and_interpolation.ipynb)'s journeys: walk from yourself to a stranger.
