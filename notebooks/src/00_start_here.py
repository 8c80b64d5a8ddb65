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
plot.show(fig, alt="A portrait as sharp as a photograph, and an enlarged part of it with eyes, nose and "
          "mouth: nobody whom the camera ever saw.")

# %% [markdown]
# Nobody took this photograph. It was drawn just now, on your machine, by a network that has seen many faces and copies none.
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
plot.show(fig, alt="Eight portraits in two rows: women and men, children and adults, of different skin tones. "
          "None of them exists.")

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
    caption="Everyone on the way is a whole person; nothing is pasted.",
)  # fmt: skip
plot.show(fig, alt="Five faces in a row: the first turns into the last step by step, and each one between "
          "them is a whole person.")

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
# The lessons in colour are here; the pale ones are still to come.

# %%
plot.show_map(current="00")

# %% [markdown]
# In one breath: a generator learns to draw faces **(01, 03)**; its numbers turn out to be an ordered map **(02, 04)**; thousands of drawn faces, sorted by
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
# A cell like these waits for you at the end of every lesson: replace `...`, run it, read the hint. The solution is folded under it.

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
# Any number will do. There are 4,294,967,296 seeds, about one for every second person on earth.
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
# ### Exercise 3: a family portrait
# One latent that is the mean of all eight of the cast. Guess first whether it will look young or old.

# %% tags=["exercise"]
everyone = ...  # [1, 512], from cast
hint = "add all eight rows and divide by eight; keepdim=True keeps it a batch of one"
check("exercise 3", everyone, dvlatent.mean(cast), hint=hint)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# everyone = cast.sum(dim=0, keepdim=True) / 8
# fig = plot.strip(faces.synthesis(dvlatent.broadcast(everyone, faces.num_layers)), titles=["all eight"])
# plot.show(fig, alt="the mean of the eight faces of the cast")
# ```
#
# Lesson 04 does this with hundreds, and predicts what comes out.
# </details>

# %% [markdown]
# ## The answer
#
# **Question:** a phone turns you into your grandmother in a tenth of a second. How could that work, and could you build it yourself?
# **Answer:** in a way that is within your reach: a network that draws faces gives every face coordinates, ageing becomes a way to go, and a small fast
# network learns to go it. You have seen the first half: 512 numbers made a face, and the numbers half way between two faces made a third.
#
# ## What next
#
# [01 · Can two networks teach each other to draw?](01_gan_basics.ipynb) shows how a network learns to draw. If you cannot wait to open this one:
# [03 · What is in a style?](03_stylegan_sampling.ipynb)
