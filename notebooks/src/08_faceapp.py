# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 08 · What is in the app?
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/dvlatent/blob/main/notebooks/08_faceapp.ipynb)
#
# **Question:** you choose a photo, drag a dial and are old. What happens in between, and how long does each part of it take?
#
# **You will:**
# - take one photo through the five steps of a face filter, by hand, and look at every picture on the way,
# - find out where the milliseconds go, and which of them lesson 07 did not count,
# - see what a small network can and cannot draw: wrinkles at 256, 512 and 1024 pixels,
# - pass a face through the filter again and again, as the video's opening joke does, and measure what drifts.
#
# **Before this:** [07 · How does a filter run on a phone?](07_distillation.ipynb)
#
# **Time:** 15 s of computing on two CPU cores, 45 minutes of yours
#
# **Explains:** the promise of the video: an app on your phone

# %% tags=["setup"]
from importlib.util import find_spec

if find_spec("dvlatent") is None:  # on Colab: the library, then the weights; elsewhere this does nothing
    get_ipython().run_line_magic("pip", 'install -q "dvlatent @ git+https://github.com/OWNER/dvlatent"')
    get_ipython().system("dvlatent assets")

# %%
import numpy as np
import torch
from skimage.data import astronaut

import dvlatent
from dvlatent import images
from dvlatent.faces import align
from dvlatent.lessons import plot
from dvlatent.lessons.teach import check

older, aligner, landmarks = (dvlatent.load(name) for name in ("age-filter", "aligner", "landmarks"))

# %% [markdown]
# ## Step 1: find
#
# The filter knows faces that fill a square, upright, eyes level. Your photo is not like that. So first something has to say *where* a face is:
# a **face detector**, and then a network that marks 68 **landmarks**: corners of the eyes, corners of the mouth, the outline.
#
# The photo is NASA's portrait of the astronaut Eileen Collins, in the public domain.

# %%
photo = images.from_uint8(astronaut())  # [1, 3, 512, 512]
alignment, face = aligner(photo, size_px=256)
upper_left, lower_left, lower_right, upper_right = np.array(alignment.quad)
side = np.linalg.norm(upper_right - upper_left)
turn = np.degrees(np.arctan2(*(upper_right - upper_left)[::-1]))
print(f"a square of {side:.0f} pixels in a photo of {photo.shape[3]}, turned by {turn:.1f} degrees")

# %%
fig, axes = plot.chart(height=5)
axes.imshow(images.to_uint8(photo)[0])
axes.plot(*np.array([*alignment.quad, alignment.quad[0]]).T, color="white", linewidth=2)
axes.set_axis_off()
axes.set_title("Step 1: where is a face?", loc="center")
plot.show(fig, alt="The astronaut's portrait; a white square, turned a little, frames her head from above the hair to below the chin.")

# %% [markdown]
# ## Step 2: align
#
# The square is cut out, turned upright and brought to 256 pixels (for a photo later to 512). Its rule comes from the photos that the generator learned from
# (FFHQ, Karras et al. 2019): the horizontal is the line of the eyes, straightened by the line down to the mouth; the side is four eye distances,
# or 3.6 times the way from eyes to mouth if that is more; the center lies a tenth of that way below the eyes. By hand, from 68 points:


# %%
def square(points):
    """The corners: upper left, lower left, lower right, upper right."""
    left, right, mouth = points[36:42].mean(0), points[42:48].mean(0), (points[48] + points[54]) / 2
    eyes, across = (left + right) / 2, right - left
    down = mouth - eyes
    x = across + np.array([down[1], -down[0]])  # both should be horizontal: their sum is the compromise
    x *= max(2 * np.linalg.norm(across), 1.8 * np.linalg.norm(down)) / np.linalg.norm(x)  # half a side
    y, center = np.array([-x[1], x[0]]), eyes + 0.1 * down
    return np.array([center - x - y, center - x + y, center + x + y, center + x - y])


points = landmarks.points(face)[0].double().numpy()  # in the aligned picture
check("the square by hand is the library's", torch.from_numpy(square(points)), torch.from_numpy(align.square(points)))
print("an aligned face aligns to itself; its corners:", square(points).round().astype(int).tolist())

# %% [markdown]
# > **Predict:** what would the filter make of the face if nobody had aligned it: the photo as it is, made 256 pixels wide?

# %%
whole = images.resize(photo, 256)
rows = torch.cat([face, older(face, older.high), whole, older(whole, older.high)])
fig = plot.strip(rows, titles=["aligned", "older", "not aligned", "older?"], caption="The same network, the same person. It looks for faces where faces always were.")
plot.show(fig, alt="Four pictures: the aligned face and the same face older; the whole portrait and the same portrait, whose small face hardly changed.")
change = [float((older(one, older.high) - one).abs().mean()) for one in (face, whole)]
print(f"mean change of a pixel: {change[0]:.3f} aligned, {change[1]:.3f} not aligned")

# %% [markdown]
# **Check your guess** against the right half of the picture.
#
# ## Step 3: filter
#
# One pass of the network. What comes out is not a new face: it is the old one **plus a change**, and the change is all that is kept.

# %%
with torch.no_grad():
    change = older(face, older.high) - face  # from -2 to 2; 0 is gray below
fig = plot.strip(torch.cat([face, change.clamp(-1, 1), (face + change).clamp(-1, 1)]), titles=["the face", "what is added", "their sum"], caption="Gray is nothing, light is lighter, dark is darker: gray hair, eye bags, folds, and teeth.")
plot.show(fig, alt="The aligned face, the change on gray ground with bluish hair and dark and light lines at eyes, forehead and mouth, and the sum of both: the face, older.")

# %% [markdown]
# ## Step 4: paste back
#
# In a photo the filter works at 512 pixels, with a second network that refines the first one's change (lesson 07). The change lies in that
# turned square; the photo has its own pixels. So every pixel of the photo asks: where am I in the square, and what
# is added there? Toward the edges of the square the answer fades to nothing, so that no edge can be seen. One row of pixels by hand:

# %%
row = 150  # a row of the photo, through her face
across = (upper_right - upper_left) / side**2
down = (lower_left - upper_left) / side**2
pixels = np.stack([np.arange(512), np.full(512, row)], axis=1) - upper_left
u, v = pixels @ across, pixels @ down  # from 0 to 1 inside the square
fade = lambda t: np.clip((np.minimum(t, 1 - t) - 0.02) / 0.15, 0, 1)  # noqa: E731
weight = np.prod([fade(t) ** 2 * (3 - 2 * fade(t)) for t in (u, v)], axis=0)
grid = torch.from_numpy(np.stack([2 * u - 1, 2 * v - 1], axis=1)[None, None]).float()
fine = align.crop(photo, alignment, older.working_px(side, photo=True))  # [1, 3, 512, 512]
small = images.resize(older(fine, older.high) - fine, round(side))  # her face has fewer pixels than the change
added = torch.nn.functional.grid_sample(small, grid, mode="bicubic", padding_mode="border", align_corners=False)[0, :, 0]
by_hand = (photo[0, :, row] + torch.from_numpy(weight).float() * added).clamp(-1, 1)
result = older.apply_to_photo(photo, older.high)
check("the row by hand is the library's", by_hand, result[0, :, row], tol=0.01)

# %% [markdown]
# ## Step 5: show
#
# Outside the square every pixel is the photo's own, to the bit.

# %%
fig = plot.strip(torch.cat([older.apply_to_photo(photo, older.low), photo, result]), titles=["younger", "the photo", "older"], caption="Step 5. The flag, the suit and the shuttle were never touched.")
plot.show(fig, alt="The whole portrait three times: the face younger, as photographed, and older; suit, flag and shuttle are the same in all three.")
same = (result == photo).all(dim=1).float().mean()
print(f"pixels that are the photo's own: {100 * same:.0f} %")

# %% [markdown]
# ## What does it cost?
#
# > **Predict:** which of the steps takes the longest: finding the face, cutting it out, the network, or pasting back? Order them.

# %% tags=["nbval-ignore-output"]
import time


def milliseconds(work, times=3):
    """The quickest of some tries."""
    tries = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        tries.append(1000 * (time.perf_counter() - began))
    return min(tries)


# %% tags=["nbval-ignore-output"]
zeros = torch.zeros_like(photo)
cost = {
    "find": milliseconds(lambda: aligner.find(photo)),
    "align": milliseconds(lambda: align.crop(photo, alignment, 512)),
    "filter": milliseconds(lambda: older(fine, older.high)),
    "paste back": milliseconds(lambda: align.paste_back(zeros, change / 2, alignment)),
}
print(", ".join(f"{step} {took:.0f} ms" for step, took in cost.items()), f"; together {sum(cost.values()):.0f} ms")

# %% tags=["nbval-ignore-output"]
fig, axes = plot.chart(height=2.8)
axes.barh(list(cost), list(cost.values()), color=plot.COLORS[0])
axes.invert_yaxis()
axes.set(xlabel="milliseconds", title="One photo of 512 pixels, on this computer")
plot.show(fig, alt="Four bars of milliseconds, one for each step; finding the face takes longest, then the network; cutting out is short and pasting back hardly to be seen.")

# %% [markdown]
# **Check your guess.** The network, the part that everybody talks about, takes less than finding the face. Lesson 07 said "more than a thousand times faster than
# the search for w", and that is true *of the network*. The honest number compares whole with whole: the search also needs a found and aligned face, and
# so the filter's whole photo against the search's whole photo is some hundred times faster. On film the face is found once and then followed,
# which is how a phone gets to many pictures a second.
#
# Larger photos cost more in the first and the last step, and not a millisecond more in the network: it always sees a square of 512 pixels.
#
# ## What does resolution mean for wrinkles?
#
# The network adds a change of 512 pixels in a photo, of 256 in a film, which is then enlarged. So how much of an old face fits into so many? Ask the generator, which draws
# at 1024: take *its* change, reduce it, enlarge it again, and lay that on.

# %%
faces, edit = dvlatent.load("faces"), dvlatent.load("age-edit")
ws = dvlatent.truncate(dvlatent.broadcast(faces.mapping(dvlatent.normal([500_011], faces.z_dim)), faces.num_layers), toward=faces.w_mean, psi=0.7)
with torch.no_grad():
    young, old = (faces.synthesis(one).clamp(-1, 1) for one in (ws, edit(ws)))
full = old - young
small = {size: images.resize(images.resize(full, size), 1024) for size in (64, 256, 512)}  # the change, kept in so many pixels


# %%
eyes = (..., slice(380, 520), slice(290, 738))  # the part of the picture where the finest lines are
for size, kept in small.items():
    lost = (full - kept)[eyes].abs().mean() / full[eyes].abs().mean()
    print(f"{size:3} px: {lost:.1f} of the change around the eyes is lost")
near = torch.cat([young, *((young + kept).clamp(-1, 1) for kept in small.values()), old])[..., 340:700, 330:690]
titles = ["before", *(f"{size} px" for size in small), "1024 px"]
fig = plot.strip(near, titles=titles, caption="The same change, kept in fewer and in more pixels, on the same photo of 1024.")
plot.show(fig, alt="One generated face from brows to mouth, five times: before, and older with the change kept at 64, 256, 512 and 1024 pixels; at 64 the lines are stains, from 256 on they can hardly be told apart.")

# %% [markdown]
# At 64 pixels the folds are stains. At 256 nearly all that the eye finds is there, and what is lost are the finest lines: enough for a phone, not for a
# cinema. Film studios run networks of this family at full resolution (Zoss et al. 2022).
#
# ## Once more, and once more
#
# The video opens with a joke: pass the result through the filter again, and again. Nobody trained the network for that: its own pictures are not
# in its textbook.
#
# > **Predict:** after eight passes of half strength, how many years older is she? Still the same person?

# %%
identity, judge = dvlatent.load("identity"), dvlatent.load("judge")
passes, shown = [face], {0: face}
for count in range(1, 9):
    passes.append(older(passes[-1], older.high / 2))
    if count in (1, 2, 4, 8):
        shown[count] = passes[-1]
with torch.no_grad():
    years = [float(judge(one)[0, 0]) for one in passes]
    away = [float((identity(one) - identity(face)).norm()) for one in passes]
for count in shown:
    print(f"{count} passes: {years[count] - years[0]:+.0f} years, identity distance {away[count]:.1f}")

# %%
fig = plot.strip(torch.cat(list(shown.values())), titles=[f"{count} passes" if count else "the photo" for count in shown], caption="What is small in one pass adds up.")
plot.show(fig, alt="The aligned face after 0, 1, 2, 4 and 8 passes: older at 2, with pale blue hair and hard folds at 4, and at 8 a mask with blue hair, holes of light and torn lines.")

# %%
fig, (left, right) = plot.chart(columns=2, height=3.6)
left.plot(range(9), [one - years[0] for one in years], marker="o")
left.set(xlabel="passes", ylabel="years added, by the judge", title="Age")
right.plot(range(9), away, marker="o", color=plot.COLORS[1])
right.axhline(0.6, color=plot.QUIET, linestyle=":", linewidth=1.2)
right.set(xlabel="passes", ylabel="identity distance", title="The same person? (below the line)")
plot.show(fig, alt="Two curves over eight passes: the years added, and the identity distance, which rises from pass to pass and crosses the dotted line of another person at the fourth.")

# %% [markdown]
# **Check your guess.** The first four passes add nearly all of the years; then the judge sees no more age, while the picture falls apart and the person is lost. The network never
# saw its own pictures: each pass makes a little mistake, and the next one takes it for a face. A filter is made for one pass.
#
# ## Some kilos more
#
# Real apps also make faces fuller and thinner. No predictor of weight is needed to find that direction: lesson 05's landmarks say how wide jaw and cheeks are, over
# the distance of the eyes (`python recipes/fuller_direction.py`). By hand, from the 68 points:

# %%
from dvlatent.faces.landmarks import fullness

fuller, landmarks = dvlatent.load("fuller-direction"), dvlatent.load("landmarks")
w = dvlatent.truncate(faces.mapping(dvlatent.normal([20_005, 20_007], faces.z_dim)), toward=faces.w_mean, psi=0.8)
with torch.no_grad():
    rows = torch.cat([faces.preview(fuller.move(dvlatent.broadcast(w, faces.num_layers), amount)).clamp(-1, 1) for amount in (-2, 0, 2)])
points = landmarks.points(rows)
width = sum((points[:, left] - points[:, 16 - left]).norm(dim=1) for left in (3, 4, 5)) / 3
wide = width / (points[:, 45] - points[:, 36]).norm(dim=1)
check("the width of jaw and cheeks, over the eyes", wide, fullness(points))
thin, own, full = wide.reshape(3, 2).mean(dim=1).tolist()
print(f"jaw and cheeks, to the nearest ten: {round(100 * (thin / own - 1), -1):+.0f} % and {round(100 * (full / own - 1), -1):+.0f} %")
order = [0, 2, 4, 1, 3, 5]
fig = plot.strip(rows[order], titles=2 * ["-2 steps", "as drawn", "+2 steps"], caption="Two generated people, thinner and fuller.")
plot.show(fig, alt="A man and a laughing woman, three times each: with a gaunt face, as drawn, and with a round face and a fuller chin; the walls behind them change as well.")

# %% [markdown]
# The generator draws it well, the wall behind included. A student like lesson 07's does it badly: it adds a change of colors to a photo. To move an outline, it must paint
# the cheek at its new place and wipe it out at the old one; where it is unsure how far, it does both by half, and two outlines are seen.
#
# So this filter adds nothing. Its network (`dvlatent/distillation/warp.py`) looks at the face at 128 px and says for each place *where its pixel comes from*: a **flow field** of
# 32x32 arrows, smoothly enlarged. Then the photo's own pixels are moved, which is a **warp**. Its teacher is the direction above, read by the landmarks alone
# (`python recipes/fuller_filter.py`): where the jaw's outline goes, the pixels shall go; eyes, nose, mouth and the background shall stay.
#
# **Guess first:** what can such a filter never do, however well it learns?

# %%
kilos = dvlatent.load("fuller-filter")
own = rows[2:4]
wide = [landmarks.points(face) for face in (kilos(own, -2), own, kilos(own, 2))]
thin, same, full = (float(fullness(one).mean()) for one in wide)
print(f"jaw and cheeks: {100 * (thin / same - 1):+.0f} % and {100 * (full / same - 1):+.0f} %")
half, whole = kilos.flow(own, 1), kilos.flow(own, 2)
check("half the strength is half of every arrow", 2 * half, whole)
check("strength 0 gives back every bit", kilos(own, 0), own)
three = torch.cat([images.resize(align.crop(kilos.apply_to_photo(photo, strength), alignment, 512), 256) for strength in (-2, 0, 2)])
pictures = torch.cat([torch.cat([kilos(own[:1], strength) for strength in (-2, 0, 2)]), three])
fig = plot.strip(pictures, titles=2 * ["-2 steps", "as it was", "+2 steps"], caption="The filter on a generated person and on a photo: jaw and cheeks move. At -2 steps, ears are stretched.")
plot.show(fig, alt="A generated man and the astronaut, three times each: with narrower cheeks and jaw, as they were, and with wider ones; eyes, mouth and what is behind stay. The ears beside the narrower cheeks are stretched.")

# %% [markdown]
# **Check your guess.** It draws nothing. No double chin, no hollow under a cheekbone, no new wall where a thinner cheek was: the pixels beside it are stretched. For an edit in
# which edges move, moved pixels are enough, and no color can go wrong; wrinkles and teeth need a network that paints.
#
# ## Try it
#
# The dials, with this notebook's kernel as the engine. Upload your photo or use the camera; nothing leaves the computer that the kernel runs on.

# %% tags=["nbval-ignore-output"]
from dvlatent.lessons.filter_app import filter_app

filter_app({name: dvlatent.load(f"{name}-filter") for name in ("age", "gender", "smile", "fuller")}, photo)

# %% [markdown]
# And as a page for a phone: `make app`, then `dvlatent app --host 0.0.0.0 --https` prints an address and a code to scan. There the network runs
# in the browser, and no picture leaves the phone. The page lists the three filters that add colors; it has no way yet to move pixels.
#
# ## Your own filter, in three commands
#
# For age, perceived gender and smile, whose directions we ship, the whole chain of lesson 07 is
#
# ```bash
# dvlatent pairs --edit "smile:-2..+2" --count 2000 --out pairs   # the textbook
# dvlatent distill pairs --out my-filter.safetensors              # hours on two cores, minutes on a GPU
# dvlatent export my-filter.safetensors --out my-filter.onnx      # for a browser or a phone
# ```
#
# For an edit of your own, lesson 05 finds the direction (`dvlatent survey`, `dvlatent find`), and `dvlatent.distillation.pairs` takes it with the rules that you set.
#
# ## What an app must not do
#
# It works so well that rules are needed, and they are yours to keep:
#
# - **Ask.** The face belongs to the person. No photos of others without their yes; for children, their parents' too.
# - **Do not deceive.** An edited picture shown as a real one can harm. Say that it is edited, where it is seen. `dvlatent filter photo.jpg --age 2 --mark` writes it
#   into the file; a standard for signed provenance exists (C2PA), and this mark is not that: anybody can remove it.
# - **Do not judge.** "Perceived age" and "perceived gender" are a network's guesses, and they err more for some groups than for others (lesson 11).
# - **Keep nothing.** A filter needs no server. Whoever uploads your face to make you old could have done it on your phone.
#
# Nobody outside knows how the real apps work inside. This lesson shows one way that works.
#
# ## Exercises
#
# Replace `...`, run the cell, read the hint.

# %% [markdown]
# ### Exercise 1: a dial between two passes
# Two passes of half strength, or one pass of full strength: which one is nearer to the person of the photo? Give the two identity distances as a list, two passes first.
# (`older(picture, strength)`, `identity(picture)`, `face`.)

# %% tags=["exercise"]
distances = ...  # two numbers
with torch.no_grad():
    twice, once = older(older(face, older.high / 2), older.high / 2), older(face, older.high)
check("exercise 1", distances, [float((identity(one) - identity(face)).norm()) for one in (twice, once)], tol=1e-3)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def far(picture):
#     with torch.no_grad():
#         return float((identity(picture) - identity(face)).norm())
#
#
# distances = [far(older(older(face, older.high / 2), older.high / 2)), far(older(face, older.high))]
# ```
#
# The two need not agree: the dial is one network's answer to one number, and a sum of answers is another thing.
# </details>

# %% [markdown]
# ### Exercise 2: the mask
# How much of the square is edited at full strength? Give the fraction of the area where `align.soft_mask(256)` is above 0.99.

# %% tags=["exercise"]
fraction = ...  # a number from 0 to 1
check("exercise 2", fraction, float((align.soft_mask(256) > 0.99).float().mean()), tol=1e-3, hint="a mean of True and False is a fraction")

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# fraction = float((align.soft_mask(256) > 0.99).float().mean())
# ```
#
# The rest fades: hair at the edge of the square is changed less than the face. A hard edge would show as a line.
# </details>

# %% [markdown]
# ### Exercise 3: only the broad things
# Make her older without any fine line: lay on only what of the change survives at 32 pixels. (`change`, `images.resize`, `face`.)

# %% tags=["exercise"]
broad = ...  # [1, 3, 256, 256]
check("exercise 3", broad, (face + images.resize(images.resize(change, 32), 256)).clamp(-1, 1), tol=1e-3, hint="reduce the change, enlarge it, add it, clamp")

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# broad = (face + images.resize(images.resize(change, 32), 256)).clamp(-1, 1)
# ```
#
# Ask the judge how old this picture is: whatever it adds without a single line drawn is color and light. A reader of ages that is fooled by that
# is a poor judge of a filter.
# </details>

# %% [markdown]
# ## The answer
#
# **Question:** you choose a photo, drag a dial and are old. What happens in between, and how long does each part of it take?
#
# **Answer:** five steps: find the face, cut it out upright, pass it once through a small network, lay only the change back over the photo, show it. All
# together a fraction of a second on two cores, more than half of it for finding and cutting out, not for the network. The change has 512 pixels, which
# keeps all of it but the finest lines, and it is made for one pass: after eight the person is lost.
#
# ## What next
#
# `make app` puts all of this on your phone. [07](07_distillation.ipynb) has how the network was taught, [05](05_finding_directions.ipynb) where the edit comes from.
