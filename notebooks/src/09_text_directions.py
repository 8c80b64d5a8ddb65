# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 09 · Can words steer a face?
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/dvlatent/blob/main/notebooks/09_text_directions.ipynb)
#
# **Question:** in lesson 05 every edit needed a predictor: one for age, one for gender. Can a sentence take its place?
#
# **You will:**
# - find out which sentence fits a face, and write the loss that teaches it in ten lines,
# - train such a model yourself, and replace predictors by sentences,
# - turn words into directions, and measure them against the formula of 05,
# - ask for words that no training had, and see what comes along.
#
# **Before this:** [05 · Where is age?](05_finding_directions.ipynb)
#
# **Time:** 50 s of computing on two CPU cores, 60 minutes of yours
#
# **Explains:** the end of the video: once a network knows pictures *and* words, a predictor of age is only a special case

# %% tags=["setup"]
from importlib.util import find_spec

if find_spec("dvlatent") is None:  # on Colab: the library, then the weights; elsewhere this does nothing
    get_ipython().run_line_magic("pip", 'install -q "dvlatent @ git+https://github.com/OWNER/dvlatent"')
    get_ipython().system("dvlatent assets --with words")

# %%
import numpy as np
import torch

import dvlatent
from dvlatent import images
from dvlatent.editing import effects, find, survey
from dvlatent.editing.words import OptimizeWordsConfig, Towers, WordsTrainConfig, contrastive_loss, find_words, optimize_words, train_words
from dvlatent.errors import UnknownWords
from dvlatent.faces.judge import glasses_labels
from dvlatent.lessons import plot
from dvlatent.lessons.teach import check
from dvlatent.stats import bootstrap

torch.set_grad_enabled(False)
faces, model = dvlatent.load("faces"), dvlatent.load("words")


# %%
def coordinates(seeds, psi=0.7):
    """The ws of some people: [seeds, 16, 512]."""
    w = dvlatent.truncate(faces.mapping(dvlatent.normal(seeds, faces.z_dim)), toward=faces.w_mean, psi=psi)
    return dvlatent.broadcast(w, faces.num_layers)


def draw(ws):
    """Previews, eight at a time."""
    return torch.cat([faces.preview(some) for some in ws.split(8)])


# %% [markdown]
# ## Which sentence fits?
#
# The model has two **towers**. One turns a picture into 128 numbers, the other a sentence. Both vectors have length one, so the
# product of two is a cosine: 1 where they point the same way.
#
# Here is one of 48 faces that no network of this lesson learned from:

# %%
wears = {seed: glasses for seed, glasses in glasses_labels().items() if seed >= 20_000}
seeds = [[seed for seed in wears if wears[seed] == glasses][:24] for glasses in (True, False)]
seeds = seeds[0] + seeds[1]  # 24 with glasses, 24 without, as a person saw them
pictures = draw(coordinates(seeds, psi=1))
fig = plot.strip(pictures[12:13], caption="Which sentence fits?")
plot.show(fig, alt="A smiling middle-aged woman with reddish hair, bangs and glasses.")

# %% [markdown]
# > **Predict:** order the sentences of the next cell from the best to the worst for her.

# %%
embedded = model.images(pictures)  # [48, 128]
sentences = ["a man", "a woman", "a smiling woman with glasses", "a serious woman without glasses", "a bald man with a beard"]
cosines = (embedded[12] @ model.sentences(sentences).T).tolist()  # by hand
check("by hand it is similarity(...)", cosines, model.similarity(pictures[12:13], sentences)[0], tol=1e-3)
for cosine, sentence in sorted(zip(cosines, sentences, strict=True), reverse=True):
    print(f"{cosine:+.2f}  {sentence}")

# %% [markdown]
# **Check your guess.** The sentence that says most of what is true comes first, and what is wrong about her comes last.
#
# Six faces and six sentences make a matrix. What matters is each row, and each column: is the own sentence the best of its row?

# %%
six = [0, 12, 36, 25, 34, 40]
captions = ["an old man with a gray beard", "a woman with glasses", "a man with a hat", "a young blond woman", "a bald man", "a girl with black hair and bangs"]
matrix = embedded[six] @ model.sentences(captions).T  # [6 faces, 6 sentences]
print("own sentence best in the row:", int((matrix.argmax(dim=1) == torch.arange(6)).sum()), "of 6")
fig, axes = plot.chart(1, 2, height=7.4, width_ratios=[1, 8])
axes[0].imshow(np.concatenate(images.to_uint8(pictures[six])), aspect="auto")
axes[1].imshow(matrix, cmap="RdBu_r", vmin=-0.9, vmax=0.9, aspect="auto")
for (row, column), value in np.ndenumerate(matrix.numpy()):
    axes[1].text(column, row, f"{value:+.1f}".replace("-", "−"), size=20, ha="center", va="center", color="white" if abs(value) > 0.5 else "black")
axes[1].set_xticks(range(6), [words.replace(" with", "\nwith").replace("young ", "young\n").replace("black hair", "black hair\n") for words in captions])
for one in axes:
    one.set_yticks([]), one.grid(visible=False)
axes[0].set_xticks([])
plot.show(fig, alt="Six faces in rows, six sentences in columns. The diagonal is red, 0.4 to 0.6; nearly all other cells are pale or blue. The old man also "
          "fits 'a bald man', with 0.3.")

# %% [markdown]
# ## The loss, in ten lines
#
# Training wants exactly this diagonal. Each row is a question with six answers: *which sentence belongs to this face?* A softmax
# turns cosines into chances; the loss is minus the logarithm of the chance of the right one. The columns ask the other way round. That is all
# of **contrastive** learning as in CLIP ([Radford et al. 2021](https://arxiv.org/abs/2103.00020)).


# %%
def by_hand(cosines, scale):
    """Symmetric cross-entropy of a square matrix whose pairs stand on the diagonal."""
    loss = 0
    for table in (cosines, cosines.T):  # faces ask for sentences, sentences for faces
        odds = (scale * table).exp()
        chance = odds / odds.sum(dim=1, keepdim=True)  # each row sums to one
        loss -= chance.diagonal().log().mean() / 2
    return loss


check("by hand it is contrastive_loss(...)", by_hand(matrix, model.scale), contrastive_loss(model.scale * matrix))
shuffled = matrix[:, [1, 2, 3, 4, 5, 0]]  # everybody has the next one's sentence
print(f"right pairs {by_hand(matrix, model.scale):.1f}; wrong pairs {by_hand(shuffled, model.scale):.1f}; one who knows nothing: log 6 = {np.log(6):.1f}")

# %% [markdown]
# The `scale` is learned as well. It is 1 / **temperature**: how much a small difference of cosines should count.
#
# ## Train one yourself
#
# Nobody wrote captions for our faces. But the survey of 05 measured 20,000 of them, so instruments can write: *"an old man, smiling"*. To
# be quick, our image tower reads the w instead of the picture. The text tower stands on a network that read a billion pairs of sentences
# (MiniLM, [Reimers and Gurevych 2019](https://arxiv.org/abs/1908.10084)) and stays as it is; we learn only what joins the two.

# %%
everybody = survey.load()
learners, unseen = everybody.take(7000), everybody.take(slice(18_000, None))
(_, w), (_, other_w) = learners.latents(faces), unseen.latents(faces)


def caption(age, male, smile):
    who = ("girl", "boy")[male > 0.5] if age < 14 else ("woman", "man")[male > 0.5]
    how = "an old" if age > 50 else "a young" if 14 <= age < 30 else "a"
    return f"{how} {who}, {'smiling' if smile > 0.5 else 'serious'}"


written = [caption(*row) for row in torch.stack([learners.column(name) for name in ("age", "male", "smile")], dim=1).tolist()]
texts = sorted(set(written))
print(f"{len(written)} faces, {len(texts)} different captions; the first: {written[0]}")

# %% [markdown]
# > **Predict:** a perfect model has read 256 faces and their 256 captions. Will its loss be 0?

# %%
own = torch.tensor([[texts.index(text)] for text in written])  # [face, 1]: the number of its caption
torch.manual_seed(0)
towers = Towers(features=512)  # a w has 512 numbers
losses = [step.loss for step in train_words(towers, w, model.encoder(texts), own, WordsTrainConfig(steps=250, batch=256, lr=1e-2))]
towers.eval()
share = torch.bincount(own[:, 0]) / len(own)  # of each caption
floor = np.log(256) + (share * share.log()).sum()  # the right one is known, but not which of the many faces that it fits
print(f"loss at first {losses[0]:.1f} (log 256 = {np.log(256):.1f}), at the end {np.mean(losses[-20:]):.1f}; a perfect model {floor:.1f}")

# %% [markdown]
# **Check your guess.** No: many of the 256 faces share one caption, and nobody can tell them apart by it.
#
# Now ask on faces and by sentences that the training never had. The nearer of two sentences is the answer:


# %%
seen_by_ours = towers.image(other_w)
age, male, smile = (unseen.column(name) for name in ("age", "male", "smile"))
questions = {
    ("a father", "a mother"): (male > 0.5, age > 0),  # the labels, and which faces are clear
    ("a senior citizen", "a teenager"): (age > 50, (age > 50) | (age < 30)),
    ("smiling", "serious"): (smile > 0.5, age > 0),
    ("somebody laughs", "somebody is sad"): (smile > 0.5, age > 0),
}
for (yes, no), (truth, clear) in questions.items():
    first, second = towers.text(model.encoder([yes, no]))
    right = ((seen_by_ours @ (first - second) > 0) == truth)[clear]
    print(f"{yes} / {no}: {right.float().mean():.1f} of {len(right)} faces")

# %% [markdown]
# It understands *father*, which it never read, because MiniLM puts it near *man*. But smiles it knows by two words only,
# and other words for them say little: captions need **many wordings**.
#
# ## Zero-shot: a sentence is a predictor
#
# The shipped model is the same thing, grown up: it looks at pictures, and its captions say hair, beards, hats and glasses too, in many words
# (`python recipes/words.py`). To ask a question that it was not trained for by sentences is called **zero-shot**. Its rival is the judge of 05,
# a network trained for exactly these four scores. Neither learned from our 48 faces.
#
# > **Predict:** how often will two sentences agree with the labels? And the judge?


# %%
def agreement(difference, vectors, truth, clear=None):
    """How often the nearer of two sentences is the true one, in % of the clear cases."""
    right = ((vectors @ difference > 0) == truth)[slice(None) if clear is None else clear]
    one = bootstrap(100 * right.float().numpy())
    return f"{one.value:3.0f} % ({one.low:.0f} to {one.high:.0f}) of {len(right)} faces"


# %%
reading, smiles = dvlatent.load("attributes")(pictures), dvlatent.load("landmarks")(pictures)[:, 0]
judge, identity = dvlatent.load("judge"), dvlatent.load("identity")
judged = judge(pictures)  # [48, 4]: age, male, smile, glasses
age, glasses = reading[:, 0], torch.tensor([wears[seed] for seed in seeds])
tests = {  # two sentences, the labels, which faces are clear, the judge's score and its middle
    ("a retired senior citizen", "a student, full of youth"): (age > 45, (age > 45) | (age < 35), judged[:, 0] - 40),
    ("a father", "a mother"): (reading[:, 1] > 0.5, None, judged[:, 1] - 0.5),
    ("somebody in a good mood", "somebody in a bad mood"): (smiles > 0.5, None, judged[:, 2] - 0.5),
    ("a person behind glasses", "a person whose eyes are bare"): (glasses, None, judged[:, 3] - 0.5),
    ("somebody who needs glasses to read", "a person with good eyes"): (glasses, None, judged[:, 3] - 0.5),
}
for (yes, no), (truth, clear, score) in tests.items():
    print(f"{yes} / {no}\n   sentences {agreement(model.difference(yes, no), embedded, truth, clear)}")
    print(f"   the judge {agreement(torch.ones(1), score[:, None], truth, clear)}")

# %% [markdown]
# **Check your guess.** Within the intervals, sentences do as well as the judge. But **wording decides**: the last pair asks for glasses too, and is no better than a coin, for
# *good eyes* say something else. (Unseen faces by the hundred: `python benchmarks/words.py`.)
#
# ## Words become directions
#
# Which way in W makes *"an old person"* fit better, and *"a face"* worse? The shipped model holds a regression from w to its 128 numbers,
# `axes`. What should grow is the difference of two sentences; the regression says along which line of W it grows.

# %%
first, second = model.sentences(["an old person", "a face"])
line = model.axes @ (first - second)  # [512, 128] @ [128]
old = find_words(model, faces, "an old person", "a face")
check("by hand it is find_words(...)", line / line.norm(), old.vector)
formula = dvlatent.load("age-direction")
print(f"angle to the formula of 05: {find.angle_degrees(old, formula):.0f}°")

# %% [markdown]
# > **Predict:** an angle as large as this: will the words fail?

# %%
edits = {"formula of 05": 1.65 * formula, "an old person": 3.2 * old}  # as strong as keeps other people equally well
found = effects.effects_of(faces, edits, [1], range(300_000, 300_016), judge, identity)
grown = (found["formula of 05"].before[:, 0] >= 18) & (found["formula of 05"].before[:, 0] <= 55)
print(f"{int(grown.sum())} adults      years    20 years or more    'male'    identity distance")
for name, one in found.items():
    one = one.take(grown)
    moved = 100 * effects.success(one, "age", by=20)[0].moved.value
    print(f"{name:14} {one.change('age').mean():+6.0f} {moved:14.0f} % {one.change('male').mean():+14.1f} {one.identity.mean():15.1f}")

# %% [markdown]
# **Check your guess.** No: at the same identity distance the words make faces as much older as the formula, and nobody needed a list of old faces. But *old* brings more *male*
# with it: nobody balanced the captions. And 72°? In 512 dimensions two useful directions can be far apart: most of a direction is what the judge does not see.
#
# ## Words nobody trained
#
# Twelve words were kept out of every caption: *grandmother, toddler, bearded, redhead, spectacles* and others.

# %%
words = ["a grandmother", "a toddler", "a bearded person", "a redhead", "a person with spectacles"]
ws = coordinates([300_003, 300_004, 300_009])
moved = {word: find_words(model, faces, word, "a person").move(ws, 3) for word in words}
shown = draw(torch.cat([ws, *moved.values()])).unflatten(0, (6, 3))  # [unchanged and 5 words, 3 people, ...]
change = judge(shown.flatten(0, 1)).unflatten(0, (6, 3)) - judge(shown[0])
for word, one in zip(words, change[1:].mean(dim=1), strict=True):
    print(f"{word:24} age {one[0]:+4.0f}   male {one[1]:+.1f}   glasses {one[3]:+.1f}")

# %%
fig = plot.labeled_grid(
    images.resize(shown.transpose(0, 1).flatten(0, 1), 192), rows=["", " ", "  "], columns=["as drawn", *(word.replace(" with", "\nwith") for word in words)],
    caption="Beards bring glasses, red hair comes with pale skin. The grandmother hardly ages.",
)  # fmt: skip
plot.show(fig, alt="Three women, each by five words. Grandmother: darker skin, hardly older. Toddler: younger, only the third a small child. Bearded: men, one with a "
          "full beard, two with glasses. Redhead: auburn hair, pale skin. Spectacles: glasses on two of three.")

# %% [markdown]
# Beards, red hair and spectacles arrive: MiniLM puts the words near others that captions have. *A grandmother* does not: it becomes a woman, not an old one. Each picture also
# shows what goes together in our faces: beards come with glasses.

# %% [markdown]
# ## From words to a picture
#
# Start at the average face. The regression jumps at once; then a **gradient** through generator and tower asks for more, as StyleCLIP does
# ([Patashnik et al. 2021](https://arxiv.org/abs/2103.17249)).

# %%
wish = "an old man with a gray beard, smiling"
mean = dvlatent.broadcast(faces.w_mean[None], faces.num_layers)
jump = find_words(model, faces, wish).move(mean, 2)
steps = list(optimize_words(model, faces, jump, wish, OptimizeWordsConfig(steps=8, lr=0.2)))
row = draw(torch.cat([mean, jump, steps[-1].ws]))
fit = model.similarity(row, [wish])[:, 0]
print("cosine with the wish:", ", ".join(f"{value:.1f}" for value in fit.tolist()))
fig = plot.strip(row, titles=["the average face", "regression", "and 8 steps of gradient"], caption="The regression changes what is sure for all faces; the gradient finds the beard. Glasses nobody asked for.")
plot.show(fig, alt="The average face, a young woman; a man of about forty with dark hair and a broad smile; a smiling old man with white hair, a gray beard and thin "
          "glasses.")

# %% [markdown]
# ## What it gets wrong
#
# A word that is like nothing in its captions is refused:

# %%
try:
    find_words(model, faces, "quantum physics")
except UnknownWords as error:
    print(error)

# %% [markdown]
# But *a doctor* and *a criminal* are persons, and that is near enough. No caption had these words, and **no face shows a profession, a crime or a
# character**. Both models, the shipped one and yours, answer nevertheless. Each bar says how far a score of 2,000 faces goes along with their fit to
# the word (a correlation).
#
# > **Predict:** is *a doctor* more male or more female? Will the two models agree?


# %% tags=["nbval-ignore-output"]
def comes_along(word):
    """Correlations of how well 2,000 faces fit a word with age, male and smile, by the shipped model and by yours."""
    shipped = other_w @ model.axes @ torch.sub(*model.sentences([word, "a person"]))
    mine = seen_by_ours @ torch.sub(*towers.text(model.encoder([word, "a person"])))
    return [[float(np.corrcoef(fit, unseen.column(name))[0, 1]) for name in ("age", "male", "smile")] for fit in (shipped, mine)]


asked = ["an old person", "a grandmother", "a doctor", "a nurse", "a criminal", "a beautiful person", "a trustworthy person"]
bars = np.array([comes_along(word) for word in asked])  # [word, model, score]; a training ends a little otherwise on each computer
for word, (shipped, mine) in zip(asked, bars, strict=True):
    print(f"{word:21} shipped:", *(f"{value:+.1f}" for value in shipped), "   yours:", *(f"{value:+.1f}" for value in mine), "  (age, male, smile)")

# %%
fig, axes = plot.chart(1, 2, height=5.6, sharey=True)
for side, title in enumerate(("the shipped model", "yours, of 16 captions")):
    for at, name in enumerate(("older", "more male", "smiling")):
        axes[side].barh(np.arange(len(asked)) - 0.27 + 0.27 * at, bars[:, side, at], height=0.25, color=plot.COLORS[at], label=name)
    axes[side].axvline(0, color="black", linewidth=1)
    axes[side].set(title=title, xlabel="correlation over 2,000 faces", xlim=(-1, 1), xticks=(-1, -0.5, 0, 0.5, 1))
axes[0].set_yticks(range(len(asked)), asked)
axes[0].invert_yaxis()
axes[0].legend(loc="lower right")
plot.show(fig, alt="Two charts of bars for seven words. In both, an old person is older; a doctor is more male and smiles less, a nurse is more female; a criminal and a "
          "beautiful person are younger. Trustworthy differs: about the same age by the first model, younger by the second.")

# %% [markdown]
# **Check your guess.** Both call *a doctor* more male and *a nurse* more female. No caption said so, and no face shows it. It comes from the part they share: the text network read
# sentences in which doctors are *he* and nurses *she*, and hands on what people wrote. **That is a bias, not a finding**: two models that agree may share one source. About *a
# trustworthy person* they agree less: what is learned nowhere is left to chance. And *a criminal* comes out younger: a number, and still nonsense.
#
# So a word is as good as the captions that taught it. Do not use such a model to judge people.
#
# <details><summary>The same with the real CLIP, if you have it</summary>
#
# CLIP learned from 400 million pictures with the text beside them. If you have its folder, as `transformers` or `open_clip` saved it, the interface is the same:
#
# ```python
# clip = dvlatent.load("clip:models/clip-vit-base-patch32")
# print(clip.similarity(pictures[12:13], sentences))
# doctor = gradient_words(clip, faces, "a doctor", "a person", seeds=range(16))  # from dvlatent.editing.words
# ```
#
# It knows *doctor*, *nurse* and *criminal*, from the pictures that people put beside these words. Measure its bars as above: what it knows is who was shown, not who is one.
# </details>
#
# ## Exercises
#
# Replace `...`, run the cell.

# %% [markdown]
# ### Exercise 1: chances
# `matrix` holds cosines. With which chances does each of the six sentences belong to the first face? Six numbers that sum to one; `model.scale` is there.

# %% tags=["exercise"]
chances = ...  # your line
check("exercise 1", chances, torch.softmax(model.scale * matrix[0], dim=0), tol=1e-3, hint="as in the loss by hand: exp, then divide by the sum")

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# odds = (model.scale * matrix[0]).exp()
# chances = odds / odds.sum()
# ```
#
# A softmax always answers: the chances sum to one even if no sentence fits.
# </details>

# %% [markdown]
# ### Exercise 2: old, and no more male
# Make the direction from *a woman* to *a man* by words, and take away from `old.vector` what it shares with it. Length one.

# %% tags=["exercise"]
pure = ...  # your lines
check("exercise 2", pure, old.without(find_words(model, faces, "a man", "a woman")).vector, hint="v − (v · g) g as in lesson 05, then divide by the length")

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# g = find_words(model, faces, "a man", "a woman").vector
# pure = old.vector - (old.vector @ g) * g
# pure = pure / pure.norm()
# ```
#
# The cures of lesson 05 work on directions from words too.
# </details>

# %% [markdown]
# ### Exercise 3: your own predictor
# Write two sentences, yes and no, that find out who wears a *hat* among our 48 faces. These do: 4, 6, 15, 18, 20, 28, 30, 36, 45 and 46 (a scarf counts).

# %% tags=["exercise"]
hats = torch.tensor([number in (4, 6, 15, 18, 20, 28, 30, 36, 45, 46) for number in range(48)])


def right(two):
    share = float((((embedded @ model.difference(*two)) > 0) == hats).float().mean())
    return share >= 0.85 or f"right about {100 * share:.0f} % of the faces; 85 % is the goal. Say what is there and what is not"


two_sentences = ...  # ["...", "..."]
check("exercise 3", two_sentences, right)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# two_sentences = ["a person wearing a hat", "a person without a hat"]
# ```
#
# No training, no labels: a predictor in one line. Its mistakes are yours to find.
# </details>

# %% [markdown]
# ## The answer
#
# **Question:** can a sentence take the place of a predictor? **Answer:** yes, for what the captions said. Two sentences told men from women, glasses and smiles about as well as a judge trained for it, if they were worded
# well; *an old person* is a direction as strong as the formula of 05. For what no caption said, the model answers too: with what other texts put beside the word.
#
# ## What next
#
# [11 · Whose faces does it fail?](11_limits.ipynb) asks what all this means for people.
