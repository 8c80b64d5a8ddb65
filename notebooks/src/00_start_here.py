# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 00 · How does a face filter work, and can you build one?
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/dvlatent/blob/main/notebooks/00_start_here.ipynb)
#
# **Question:** a phone turns you into your grandmother in a tenth of a second. How could that work, and could you build it yourself?
#
# **You will:**
# - draw a face of somebody who does not exist, from 512 random numbers,
# - turn that person into another with a slider,
# - see the whole road from here to a filter of your own.
#
# **Before this:** nothing but a little Python
#
# **Time:** 15 s of computing on two CPU cores, 15 minutes of yours
#
# **Explains:** the first minutes of the video, in which a filter is more than a mask

# %% tags=["setup"]
from importlib.util import find_spec

if find_spec("dvlatent") is None:  # on Colab: the library, then the weights; elsewhere this does nothing
    get_ipython().run_line_magic("pip", 'install -q "dvlatent @ git+https://github.com/OWNER/dvlatent"')
    get_ipython().system("dvlatent assets")

# %% [markdown]
# First a face, then the words. Run the next cell.

# %%
import torch

import dvlatent
from dvlatent.lessons import plot
from dvlatent.lessons.teach import check

faces = dvlatent.load("faces")  # a network that has learned to draw faces
z = dvlatent.normal(28, faces.z_dim)  # a random vector: 512 numbers, fixed by seed 28
w = dvlatent.truncate(faces.mapping(z), toward=faces.w_mean, psi=0.7)  # tidied up: lesson 03 explains both
picture = faces.synthesis(dvlatent.broadcast(w, faces.num_layers))
close = picture[:, :, 350:890, 250:790]  # the same picture, nearer
both = torch.cat([dvlatent.images.resize(picture, 540), close])
fig = plot.strip(both, caption="A person who does not exist, and a closer look.")
plot.show(fig, alt="A smiling young woman with tied dark hair, as sharp as a photograph; beside her the same eyes, nose and "
          "mouth enlarged, with lashes and shining skin.")

# %% [markdown]
# Nobody took this photograph. It was drawn just now, on your machine, by a network ([Belousov 2021](https://arxiv.org/abs/2104.04767)) that has seen
# 70,000 photos of faces ([FFHQ](https://arxiv.org/abs/1812.04948)). Does it copy one of them? A fair question: lesson 01 shows how to ask it.
#
# > **Predict:** how many numbers go in, and how many come out?

# %%
height, width = picture.shape[2:]
print(f"{z.numel()} numbers in, {picture.numel():,} out: {height} by {width} pixels in three colours")

# %% [markdown]
# Three words for all that follows:
#
# - A **generator** is a network that turns numbers into a picture.
# - A **latent** is the row of numbers that names one picture; here 512 of them.
# - A **seed** fixes the random numbers. The same seed gives the same random vector, the same latent and the same face, on every machine.
#
# ## A filter is more than a mask
#
# A mask pastes: a moustache drawn over your photo, at the place where your nose was found. A **filter**, as this course uses the word, redraws: photo in, photo out,
# and in the new one your hair is grey, the skin has changed, the light still fits, and it is still you. Nobody could write rules for that. But
# somebody who owns a good *map of faces*, on which every face has a place and "older" is a way to go, could make it. This course builds that map, and then
# the filter.
#
# Here are eight places on the map.

# %%
# Chosen by eye among seeds 1 to 80: varied in age, perceived gender and skin tone, none broken.
CAST = [28, 70, 35, 54, 7, 75, 38, 37]
cast = dvlatent.truncate(faces.mapping(dvlatent.normal(CAST, faces.z_dim)), toward=faces.w_mean, psi=0.7)  # [8, 512]
pictures = faces.synthesis(dvlatent.broadcast(cast, faces.num_layers))  # [8, 3, 1024, 1024]
fig = plot.faces(pictures, columns=4, titles=[f"seed {seed}" for seed in CAST], caption="None of these people exists.")
plot.show(fig, alt="Eight portraits in two rows. Above: a young woman with tied dark hair, an old man with glasses, a young woman, an older one with "
          "grey-blond hair. Below: a laughing woman with red hair, a man, a girl, a boy. Skin tones differ.")

# %% [markdown]
# ## From one face to another
#
# If two faces are two places, there is a way between them. Half way lies the mean of the two rows of numbers.
#
# > **Predict:** what will be there: two faces laid over each other, or somebody else?

# %%
a, b = cast[:1], cast[1:2]  # [1, 512] each
half = (a + b) / 2  # by hand
check("half way by hand is dvlatent.lerp", half, dvlatent.lerp(a, b, 0.5))

way = dvlatent.lerp(a, b, torch.linspace(0, 1, 5))  # [5, 512]
fig = plot.strip(
    faces.synthesis(dvlatent.broadcast(way, faces.num_layers)), titles=["A", "25 %", "50 %", "75 %", "B"],
    caption="Each one is a whole person: no face lies over another.",
)  # fmt: skip
plot.show(fig, alt="Five faces in a row: the young woman, then a dark-haired man, then the same man greying; at 75 % he has the white hair and the glasses of the "
          "old man on the right. Each is a whole face.")

# %% [markdown]
# Now with your own hand. Drag the slider, or use the arrow keys. (It moves on a page without Python behind it, too: its pictures lie in the page.)

# %% tags=["nbval-ignore-output"]
from dvlatent.lessons.morph import morph

morph(faces, a, b)

# %% [markdown]
# **Check your guess:** somebody else, all the way. This one observation carries the whole course: *faces have coordinates, and you can
# calculate with them.*
#
# ## The road
#
# All twelve lessons are here.

# %%
plot.show_map(current="00")

# %% [markdown]
# In one breath: two networks teach each other to draw **(01)**; what a network knows of pictures can be laid out as a map, on which neighbours are alike
# **(02)**; a large generator draws faces, style by style **(03)**, and there is a way from each to each **(04)**; thousands of drawn faces, sorted by
# perceived age, give the way called "older" **(05)**; your own photo can be found on the map **(06)**, but slowly; so the map makes thousands of pairs, young and
# old, and a small fast network learns from them to do it in one pass, on any photo **(07)**. That network is the filter **(08)**.
#
# ## What runs where, and what to be careful about
#
# - **Nothing leaves your machine.** The networks lie on your disk; after the first installation no cell needs a network. A photo that you use in a later
#   lesson stays where you run the notebook: on Colab that is Google's computer.
# - **Nobody outside the company knows how the real app works.** We build a way that is plausible, public, and yours to take apart.
# - **Research and teaching only.** The weights of this generator come from networks that were released for that; see `docs/MODELS.md`.
# - **The faces are not fair.** The generator learned from photos that people put on the web. What was common there it draws well and often, what was rare badly and
#   seldom. Our cast was chosen to be varied; random faces are less so.
# - **Perceived, always.** When a lesson says "age" or "gender", it means what one network guesses from a picture. It is not who somebody is.
# - **Ask first.** A filter on somebody's face is about that person. Ask before you edit a photo of others, and say so when you show it.
#
# What your machine is:

# %% tags=["nbval-ignore-output"]
from dvlatent.lessons import teach

teach.environment()

# %% [markdown]
# ## Exercises
#
# Cells like these wait for you at the end of every lesson: replace `...`, run, read the hint. The solution is folded under it.

# %% [markdown]
# ### Exercise 1: your own seed
# Choose a whole number that means something to you, and see who lives there.

# %% tags=["exercise"]
my_seed = ...  # a whole number, 0 or larger
check(
    "exercise 1", my_seed,
    lambda seed: (isinstance(seed, int) and 0 <= seed < 2**32) or "a seed is a whole number from 0 to 4294967295",
)  # fmt: skip

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# my_seed = 1984
# mine = dvlatent.truncate(faces.mapping(dvlatent.normal(my_seed, faces.z_dim)), toward=faces.w_mean, psi=0.7)
# fig = plot.strip(faces.synthesis(dvlatent.broadcast(mine, faces.num_layers)), titles=[f"seed {my_seed}"])
# plot.show(fig, alt="the face of my own seed")
# ```
#
# Any number will do. There are 4,294,967,296 seeds, about half as many as people on earth.
# </details>

# %% [markdown]
# ### Exercise 2: nearer to A
# Which latent lies a quarter of the way from `a` to `b`? Write it without `lerp`.

# %% tags=["exercise"]
quarter = ...  # a line of arithmetic with a and b
check("exercise 2", quarter, dvlatent.lerp(a, b, 0.25), hint="start at a and go a quarter of the way, b - a")

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# quarter = a + (b - a) / 4
# ```
#
# The same as three quarters of `a` plus one quarter of `b`. It is the second face of the row above.
# </details>

# %% [markdown]
# ### Exercise 3: a journey through all eight
# Write `tour`: from every stop straight to the next one, in `steps` equal steps, and from the last stop back to the first. The first place is the first
# stop; no place comes twice. Guess before you look: who will stand half way between two neighbours of the cast?


# %% tags=["exercise"]
def tour(stops, steps):
    """[stop, 512] -> [stop * steps, 512]."""
    ...  # your lines; torch.stack makes one tensor of a list of rows


legs = zip(cast, cast.roll(-1, dims=0), strict=True)  # who follows whom
expected = torch.cat([dvlatent.lerp(here[None], there[None], torch.arange(6) / 6) for here, there in legs])  # [48, 512]
check("exercise 3", tour, lambda f: torch.allclose(f(cast, 6), expected, atol=1e-4) or "step k of a leg is here + k / steps * (there - here)")

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def tour(stops, steps):
#     places = []
#     for at in range(len(stops)):
#         here, there = stops[at], stops[(at + 1) % len(stops)]
#         for step in range(steps):
#             places.append(here + step / steps * (there - here))
#     return torch.stack(places)
#
# fig = plot.faces(faces.synthesis(dvlatent.broadcast(tour(cast, 2)[1::2], faces.num_layers)), columns=4)
# plot.show(fig, alt="the faces half way between neighbours of the cast")
# ```
#
# A film of such a journey is nearly finished: lesson 04 makes one.
# </details>

# %% [markdown]
# ### An open question
# You were asked to guess before the row of faces came. Suppose it had shown two faces laid over each other, as a double exposure does: what would you believe now about
# the 512 numbers, and could a filter still be made of them?

# %% [markdown]
# ## The answer
#
# **Question:** a phone turns you into your grandmother in a tenth of a second. How could that work, and could you build it yourself?
# **Answer:** in a way that is within your reach: a network that draws faces gives every face coordinates, ageing becomes a way to go, and a small fast
# network learns to go it. You have seen the first half: 512 numbers made a face, and the numbers half way between two faces made a third.
#
# ## What next
#
# [01 · Can two networks teach each other to draw?](01_gan_basics.ipynb) shows where a network that draws comes from, on things so small that you can watch it think.
# Then [02](02_mnist_latent_map.ipynb) finds the map in it, and [03](03_stylegan_sampling.ipynb) comes back to faces.
