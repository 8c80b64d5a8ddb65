# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 05 · Where is age?
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/dvlatent/blob/main/notebooks/05_finding_directions.ipynb)
#
# **Question:** is there one direction among 512 dimensions along which *every* face grows older, and does nothing else change along it?
#
# **You will:**
# - find the formula of ageing with two averages, and see it turn women into men,
# - write three cures by hand, and compare them by numbers,
# - in the second half: gender, smile and glasses, what leaks into what, which layers carry age, and what a gradient finds.
#
# **Before this:** [03 · Sampling faces](03_stylegan_sampling.ipynb) and [04 · Averages and journeys](04_averaging_and_interpolation.ipynb)
#
# **Time:** 65 s of computing on two CPU cores, twice 40 minutes of yours (a place to stop is marked)
#
# **Explains:** the heart of the video: thousands of faces, a network that reads them, two mean vectors

# %% tags=["setup"]
from importlib.util import find_spec

if find_spec("dvlatent") is None:  # on Colab: the library, then the weights; elsewhere this does nothing
    get_ipython().run_line_magic("pip", 'install -q "dvlatent @ git+https://github.com/OWNER/dvlatent"')
    get_ipython().system("dvlatent assets")

# %%
import numpy as np
import torch

import dvlatent
from dvlatent import images
from dvlatent.editing import effects, find, survey
from dvlatent.lessons import plot
from dvlatent.lessons.teach import check
from dvlatent.stats import bootstrap
from dvlatent.toy.faces import ToyFaces
from dvlatent.types import fingerprint

torch.set_grad_enabled(False)  # nothing is trained today
faces = dvlatent.load("faces")
attributes = dvlatent.load("attributes")  # the instrument that reads faces


# %%
def coordinates(seeds, psi=0.7):
    """The ws of some people: [seeds, 16, 512]."""
    w = dvlatent.truncate(faces.mapping(dvlatent.normal(seeds, faces.z_dim)), toward=faces.w_mean, psi=psi)
    return dvlatent.broadcast(w, faces.num_layers)


def around(values, form=".2f"):
    """The mean over some faces, and the interval in which it would move with other faces (95 %)."""
    one = bootstrap(values.numpy())
    return f"{one.value:{form}} ({one.low:{form}} to {one.high:{form}})"


# %% [markdown]
# The video gives the formula of ageing in five steps.
#
# ## Step 1: faces by the thousand
#
# Draw a random vector, make a picture of it, repeat: that is a **survey**. Step 2 comes with it: two **predictors** read every picture,
# one a **perceived age** (years), the other how likely it calls the person male (0 to 1). By hand, for six faces:

# %%
pictures = faces.preview(coordinates(range(6), psi=1))
pictures = images.from_uint8(images.to_uint8(pictures))  # in whole bytes, as a file would hold them: so the survey scores them
by_hand = attributes(pictures)  # [6 faces, 2 scores]
titles = [f"age {age:.0f}, {'male' if male > 0.5 else 'female'}" for age, male in by_hand.tolist()]
fig = plot.strip(pictures, titles=titles, caption="Six people who do not exist, and what two small networks perceive.")
plot.show(fig, alt="Six generated portraits, titled with perceived age and gender: 26 female, 60 male, 27 male, 30 male, 53 female "
          "and 21 female.")

# %% [markdown]
# And by the library, for a hundred.
#
# > **Predict:** how old is the middle one of them? And how many are over 60?

# %%
live = survey.collect(survey.survey(faces, attributes, range(100), psi=1.0))
check("six by hand are the survey's first six", live.scores[:6], by_hand, tol=1e-2)
ages = live.column("age")
print(f"{len(live)} faces, each with {len(live.names)} scores: {', '.join(live.names)}")
print(f"perceived age: the middle one is {ages.median():.0f}; {100 * (ages > 60).float().mean():.0f} % are over 60")
print(f"perceived male: {100 * (live.column('male') > 0.5).float().mean():.0f} %")

# %% [markdown]
# The same survey of 20,000 faces comes with the library, as scores only: every w comes back
# from its seed. Its first 100 must be yours. And do full renders read the same?

# %%
everybody = survey.load()  # 20,000 faces
population = everybody.take(10_000)  # we search in the first half; the second is for later
same = (population.take(100).column("age") - ages).abs()
print(f"your 100 against the shipped ones: ages differ by {same.median():.1f} years (median)")
full = torch.cat([attributes(faces.synthesis(one)) for one in coordinates(range(6), psi=1).split(1)])
print(f"previews against full renders, 6 faces: ages differ by {(full[:, 0] - ages[:6]).abs().median():.0f} year or less (median)")

# %%
fig, axes = plot.chart(1, 2, height=4.4, width_ratios=[3, 2])
for gender, side, color in (("female", population.column("male") < 0.5, 1), ("male", population.column("male") >= 0.5, 0)):
    axes[0].hist(population.column("age")[side].numpy(), bins=range(0, 82, 3), histtype="step", linewidth=2.4, color=plot.COLORS[color], label=f"perceived {gender}")
    axes[1].bar(gender, float((population.column("age")[side] > 55).float().mean() * 100), color=plot.COLORS[color])
axes[0].set(title="10,000 faces that do not exist", xlabel="perceived age in years", ylabel="faces")
axes[1].set(title="… and how many are over 55", ylabel="% of them")
axes[0].legend()
plot.show(fig, alt="Two histograms of perceived age. Women have a high peak at 26 and few past 50; men a lower, wider one. Bars: 3 % of "
          "the women and 14 % of the men are over 55.")

# %% [markdown]
# ## Steps 3, 4 and 5: two averages and a difference
#
# Average the 512 numbers of the young adults, and of the old. Subtract ([Larsen et al. 2016](https://arxiv.org/abs/1512.09300)):

# %%
_, w = population.latents(faces)  # [10000, 512], from the seeds
age = population.column("age")
young, old = (age >= 18) & (age <= 28), age >= 55
formula = w[old].mean(dim=0) - w[young].mean(dim=0)  # 512 numbers: the formula of ageing
print(f"{young.sum()} young adults, {old.sum()} of 55 and over; the difference is {formula.norm():.1f} long")

raw = find.find(faces, population, "age", low=(18, 28), high=(55, 100))
check("by hand it is find(...)", formula / formula.norm(), raw.vector)
print(f"one step of it is {raw.step:.2f} long: how much faces differ along it (one standard deviation)")

# %% [markdown]
# > **Predict:** add it to four women whose seeds lie beyond the survey. What will you see?

# %%
women = [20_003, 20_007, 20_014, 20_024]
ws = coordinates(women)
rows = torch.cat([faces.synthesis(raw.move(ws, amount)) for amount in (0, 1.5, 2.5)])
print("perceived male at +2.5 steps:", *(f"{male:.1f}" for male in attributes(rows[8:])[:, 1]))
fig = plot.labeled_grid(
    rows, rows=["as they were", "+1.5 steps", "+2.5 steps"], columns=[f"seed {seed}" for seed in women],
    caption="To the predictor all four are men in the last row. To your eye, perhaps, the third is a woman.",
)  # fmt: skip
plot.show(fig, alt="Four women in columns. At 1.5 steps all are older and wear glasses, and the first and the last are men; at 2.5 steps two bald "
          "old men, one person with short gray hair, and one with white hair.")

# %% [markdown]
# **Check your guess:** older, yes: grey hair, wrinkles, glasses. And mostly *men*.
#
# ## Why women turned into men
#
# Look at whom we averaged:

# %%
male = population.column("male")
gender = find.find(faces, population, "male", by="logistic", ridge=0.001)  # the strength that held-out faces choose
percent = [100 * float((male[group] > 0.5).float().mean()) for group in (young, old)]
print(f"perceived male among the young: {percent[0]:.0f} %, among the old: {percent[1]:.0f} %")
print(f"angle between 'older' and 'more male': {find.angle_degrees(raw, gender):.0f}° (90° would be: nothing to do with each other)")

# %% [markdown]
# The difference of two averages contains *everything* in which the groups differ. Statisticians call gender a **confounder** here.
#
# On real faces nobody knows the true direction of age. On the drawn toy face we do, and a dial says how strongly age and glasses
# go together:

# %%
ties, angles = [0, 0.3, 0.6, 0.9], {"difference of means": [], "balanced by glasses": [], "regression": []}
ways = [{}, {"balance": "glasses"}, {"by": "ridge"}]
for tie in ties:
    toy = ToyFaces(correlation=tie)  # in this population age and glasses go together
    toy_w = toy.mapping(dvlatent.normal(range(1500), toy.z_dim))
    factors = toy.factors(dvlatent.broadcast(toy_w, toy.num_layers))
    people = survey.Population(tuple(range(1500)), factors, toy.factor_names, 1.0, fingerprint(toy))
    for name, way in zip(angles, ways, strict=True):
        angles[name].append(find.angle_degrees(find.find(toy, people, "age", **way), toy.truth["age"]))
    worth = find.find(toy, people, "age", balance="glasses").found_by["low_worth"]
    print(f"correlation {tie:.1f}:", *(f"{name} {each[-1]:.0f}°" for name, each in angles.items()), f"(balanced: worth {worth:.0f} young faces)")

# %%
mean_ws = dvlatent.broadcast(toy.w_mean[None], toy.num_layers)  # the average toy face, from the population in which the two go together most
rows = torch.cat([find.find(toy, people, "age", **way).move_to(mean_ws, at=2.5) for way in ways])
fig = plot.strip(
    toy.synthesis(torch.cat([mean_ws, rows])), titles=["the average", *(f"older: {name}" for name in angles)],
    caption="The difference of means thickens the glasses. Balanced, the glasses stay, but skin, wall and eyes drift. Only the regression changes age alone.",
)  # fmt: skip
plot.show(fig, alt="Four drawn faces: the average, and three older ones with gray hair. By the difference of means the glasses are thick; balanced, skin "
          "and wall have other colors; by regression only hair and wrinkles differ.")

# %%
fig, axes = plot.chart(height=4.2)
for color, (name, degrees) in zip((1, 4, 2), angles.items(), strict=True):
    axes.plot(ties, degrees, "o-", color=plot.COLORS[color], label=name)
axes.set(title="How far off the true direction?", xlabel="correlation of age and glasses in the population", ylabel="degrees", ylim=(0, 40))
axes.legend()
plot.show(fig, alt="Degrees off the truth against correlation. Difference of means: from 4 up to 31. Balanced: about 5, but 25 at a correlation of 0.9. "
          "Regression: 0 everywhere.")

# %% [markdown]
# At a correlation of 0.9 balancing hardly helps: few faces are left that count, and their mean drifts by chance. (The
# regression is exact because the toy's age is a straight line in w.)
#
# ## Cures, by hand
#
# **Project it out** ([Shen et al. 2020](https://arxiv.org/abs/1907.10786)): take away from the formula what it shares with gender, `v − (v · g) g`.

# %%
g = gender.vector
by_hand = raw.vector - (raw.vector @ g) * g
check("projected by hand is raw.without(gender)", by_hand / by_hand.norm(), raw.without(gender).vector)

# %% [markdown]
# <details><summary>Why this formula: the closed form of the projection</summary>
#
# We want the `u` nearest to `v` among all that leave gender alone, `u · g = 0`. Whatever we take away along other directions than `g` only makes the distance larger, so
# `u = v − a g`. Then `0 = u · g = v · g − a (g · g)`, and `a = v · g` for a `g` of length one. For several directions, the columns of `G`, the same steps give
# `u = v − G (GᵀG)⁻¹ Gᵀ v`. Taking one away after the other is not the same, unless they stand at right angles.
# </details>
#
# **Balance** before averaging ([Li et al. 2018](https://arxiv.org/abs/1404.1785)): every face counts by how common its gender is *at the other end*: an old woman counts more than an old man.

# %%
ends = young | old
is_old, man = old[ends], (male > 0.5)[ends]
share_old, share_young = man[is_old].float().mean(), man[~is_old].float().mean()
among_old, among_young = (torch.where(man, share, 1 - share) for share in (share_old, share_young))  # of each face's own gender
weight = torch.where(is_old, among_young, among_old) / (among_old + among_young)
weight = weight / torch.where(is_old, weight[is_old].sum(), weight[~is_old].sum())  # each end sums to one
print(*(f"men among the {name}: {100 * (weight * man)[end].sum():.0f} %" for name, end in {"old": is_old, "young": ~is_old}.items()), sep=", ")
balanced = weight[is_old] @ w[ends][is_old] - weight[~is_old] @ w[ends][~is_old]
library = find.overlap_weights(man[:, None].double().numpy(), is_old.numpy())
check("balanced by hand is the library's", balanced, find.mean_difference(w[ends].double().numpy(), is_old.numpy(), library).vector)

# %% [markdown]
# **Discriminate** (LDA, [Fisher 1936](https://doi.org/10.1111/j.1469-1809.1936.tb02137.x)): divide the difference by how faces vary anyway.

# %%
lda = find.find(faces, population, "age", by="lda", low=(18, 28), high=(55, 100))
x = w[ends].double()
within = x - torch.where(is_old[:, None], x[is_old].mean(dim=0), x[~is_old].mean(dim=0))  # from the mean of one's own end
count = torch.where(is_old, 0.5 / is_old.sum(), 0.5 / (~is_old).sum()).double()  # both ends count alike
covariance = within.T @ (count[:, None] * within)  # [512, 512]
little = lda.found_by["shrinkage"]  # toward a sphere, since 3,640 faces do not tell 512 variances exactly
covariance = (1 - little) * covariance + little * covariance.trace() / 512 * torch.eye(512)
by_hand = torch.linalg.solve(covariance, formula.double())
check("LDA by hand is find(by='lda')", by_hand / by_hand.norm(), lda.vector)

# %% [markdown]
# <details><summary>Why LDA whitens</summary>
#
# Which direction `u` tells old from young best? The one for which the distance of the two means along `u` is largest compared with the spread along it: make
# `(u · d)² / (uᵀ S u)` large, `d` the difference of the means, `S` the covariance within the ends. Change coordinates to `y = S^(−1/2) w`: there faces vary equally
# in every direction (they are **whitened**), the spread is the same whatever the direction, and the best one is plainly the difference of the means, `S^(−1/2) d`. Read in
# the old coordinates, `y · S^(−1/2) d = w · S⁻¹ d`: that is the `u = S⁻¹ d` of the cell above.
# </details>
#
# **Both**: balance, then project, and leave out the first three layers. That is what the library ships.
#
# > **Predict:** which cure leaks least? And which keeps the person best?

# %%
adults = {"low": (18, 28), "high": (55, 100)}
cures = {
    "raw": raw,
    "projected": find.measured_on(raw.without(gender), faces, population),
    "balanced": find.find(faces, population, "age", balance="male", **adults),  # by the score itself, not only yes or no
    "LDA": lda,
}
both = find.find(faces, population, "age", balance="male", layers=range(3, 16), **adults).without(gender)
cures["both"] = find.measured_on(both, faces, population)  # its step is measured again
check("the last one is what we ship", cures["both"].vector, dvlatent.load("age-direction").vector, tol=1e-3)

# %%
for name, cure in cures.items():
    print(f"{name:11} angle to raw {find.angle_degrees(raw, cure):3.0f}°, to 'more male' {find.angle_degrees(gender, cure):3.0f}°")

# %% [markdown]
# We edit unseen people, and ask the **judge**: a network of ours that sees the whole face and learned on other faces than those of the search. (But it
# learned the predictors' labels: it cannot catch what is wrong with *them*.) Each cure gets a strength, chosen on other people, that adds about as many years.

# %%
judge, identity = dvlatent.load("judge"), dvlatent.load("identity")
strengths = {"raw": 1.34, "projected": 1.60, "balanced": 1.31, "LDA": 7.18, "both": 1.89}  # steps
edits = {name: strengths[name] * cure for name, cure in cures.items()}
found = effects.effects_of(faces, edits, [1], range(300_000, 300_026), judge, identity)
adult = (found["raw"].before[:, 0] >= 18) & (found["raw"].before[:, 0] <= 55)  # nobody knows what +25 does to a child
found = {name: one.take(adult) for name, one in found.items()}

# %%
print(f"{int(adult.sum())} unseen adults  years older  'male' per 20 years     identity distance      same person")
for name, one in found.items():
    years, male_change = one.change("age")[0], one.change("male")[0]
    leak, far = around(20 * male_change / years.mean()), around(one.identity[0])
    print(f"{name:16} {years.mean():11.0f}  {leak:>22} {far:>22} {100 * (one.identity[0] < 0.6).float().mean():8.0f} %")

# %% [markdown]
# **Check your guess.** The leak falls from half a gender per 20 years to a tenth or so. At about equal years the cures also keep the person better, but nobody well. (500 adults: `python benchmarks/directions.py`.)

# %%
person = coordinates([20_024])
amounts = {"younger": -1, "older": 1, "much older": 1.6}
rows = torch.cat([(amount * edit)(person) for amount in amounts.values() for edit in edits.values()])
fig = plot.labeled_grid(
    images.resize(faces.preview(rows), 192), rows=list(amounts), columns=list(edits), caption="Raw, she becomes a bald man. Projected or balanced, gray short hair and glasses come. Both: her hair stays, and no glasses.",
)  # fmt: skip
plot.show(fig, alt="One woman, three ages by five formulas. Raw: a girl, a man, a bald old man. Projected and balanced: short gray hair and glasses. "
          "LDA: she keeps her hair, the wall turns bright green. Both: an old woman with her own hair.")

# %% [markdown]
# Move the dial yourself. (The strip below shows the same.)

# %% tags=["nbval-ignore-output"]
from dvlatent.lessons.morph import morph

older = dvlatent.load("age-direction")
you = coordinates([20_019])
morph(faces, older.move(you, -2.5), older.move(you, 2.5), frames=9, names=("younger", "older"))

# %%
amounts = torch.tensor([-2.4, -1.2, 0, 1.2, 2.4])
aged = older.move(you.expand(len(amounts), -1, -1), amounts)  # [5, 16, 512]
perceived = judge(faces.preview(aged))[:, 0]  # years, says the judge
titles = [f"{amount:+.1f} steps\njudged {years:.0f}".replace("-", "−") for amount, years in zip(amounts.tolist(), perceived, strict=True)]
fig = plot.strip(faces.preview(aged), titles=titles, caption="One straight line of W. With her age the origin moves that one would guess, from East Asian to European.")
plot.show(fig, alt="One woman five times, judged 21, 26, 40, 53 and 68: black hair and smooth skin at first, then brown, then fair hair and wrinkles; the shape of "
          "her eyes changes along the way.")

# %% [markdown]
# And this is what moves: the forty of her 512 numbers that the direction changes most.

# %%
forty = older.vector.abs().argsort(descending=True)[:40]
forty = forty[older.vector[forty].argsort()]  # from those that fall to those that rise
numbers = (aged[:, 5] - faces.w_mean)[:, forty]  # [5, 40], of layer 5
print(f"these forty carry {100 * older.vector[forty].square().sum():.0f} % of the squared length of the direction")
fig, axes = plot.chart(height=3.4)
axes.imshow(numbers, cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
axes.set(title="Forty of 512 numbers, minus those of the average face", xlabel="number, from those that fall to those that rise")
axes.set_yticks(range(5), [f"{amount:+.1f} steps".replace("-", "−") for amount in amounts.tolist()])
axes.set_xticks([])
axes.grid(visible=False)
plot.show(fig, alt="A strip of five rows and forty columns. The left columns go from red above to blue below, the right ones from blue to red: each number "
          "rises or falls steadily with the steps.")

# %% [markdown]
# > **A place to stop.** You have the formula, what is wrong with it, and three cures.
#
# ## Same for gender, smile, pose and glasses
#
# Any score will do. Smile and pose are read off 68 points on the face ([Kazemi and Sullivan 2014](https://doi.org/10.1109/CVPR.2014.241)). For glasses a person looked at
# some hundreds of faces: a list of labels is as good as a network.

# %%
from dataclasses import replace

from dvlatent.faces.judge import glasses_labels

labels = {seed: wears for seed, wears in glasses_labels().items() if seed < 10_000}  # the judge learned from others
seen = population.take(list(labels))  # seed s is row s
seen = replace(seen, names=(*seen.names, "glasses"), scores=torch.cat([seen.scores, torch.tensor([list(labels.values())]).T], dim=1))
print(f"{sum(labels.values())} faces with glasses and {len(labels) - sum(labels.values())} without")

# %%
named = {
    "older": older,
    "more male": dvlatent.load("gender-direction"),
    "smile": dvlatent.load("smile-direction"),
    "glasses": find.find(faces, seen, "glasses", low=(0, 0), high=(1, 1), balance=("age", "male")),
    "turn": find.find(faces, population, "yaw", by="ridge", ridge=1),
}
for name, direction in named.items():
    print(f"{name:10} one step is {direction.step:.2f} long; found by {direction.found_by['method']} on {direction.found_by['faces']} faces")

# %%
most = {"older": 2, "more male": 2.5, "smile": 2, "glasses": 2.5, "turn": 2}  # steps
rows = [named[name].move(you, sign * steps) for sign in (-1, 0, 1) for name, steps in most.items()]
fig = plot.labeled_grid(
    faces.preview(torch.cat(rows)), rows=["less", "as they are", "more"], columns=list(most),
    caption="Watch each column for what else changes: a beard, another origin, sun glasses for glasses, flaws at −2.5 steps of male.",
)  # fmt: skip
plot.show(fig, alt="Five columns of one woman, less above and more below. Older: fair hair and wrinkles. More male: a man with a beard. Smile: closed lips, "
          "broad smile. Glasses: large sun glasses. Turn: the head in profile. Less male: dark spots at the mouth.")

# %% [markdown]
# ## What leaks into what
#
# If directions did what their names say, this table would be 1 on the diagonal and 0 elsewhere.
#
# > **Predict:** what will come along with a smile?

# %%
moves = {"age": 1.65 * named["older"], "male": 2 * named["more male"], "smile": 2 * named["smile"], "glasses": 2 * named["glasses"]}
moved = effects.effects_of(faces, moves, [1], range(301_000, 301_008), judge)
map_of = effects.leakage(moved)  # change of every score, in its standard deviations, per one of the edited score
for name, row in zip(map_of.edited, map_of.value, strict=True):
    print(f"edit {name:8}", *(f"{other} {value:+.1f}   " for other, value in zip(map_of.names, row, strict=True)))

# %%
fig, axes = plot.chart(height=4.8)
heat = axes.imshow(map_of.value, cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
for (row, column), value in np.ndenumerate(map_of.value):
    bounds = f"{map_of.low[row, column]:+.1f} … {map_of.high[row, column]:+.1f}".replace("-", "−")
    white = {"color": "white" if abs(value) > 0.6 else "black", "ha": "center"}
    axes.text(column, row - 0.08, f"{value:+.2f}".replace("-", "−"), size=16, va="center", **white)
    if row != column:
        axes.text(column, row + 0.26, bounds, size=11, va="center", **white)
axes.set(title="Edit one thing (row): what else moves (column)?", xlabel="change, in standard deviations of each score", ylabel="edited")
axes.set_xticks(range(4), ["perceived age", "perceived male", "smile", "glasses"])
axes.set_yticks(range(4), ["older", "more male", "smile", "glasses"])
axes.grid(visible=False)
plot.show(fig, alt="A four by four table. The diagonal is one. Age moves nothing else. Male and glasses each take a third of a standard deviation of smile "
          "away; all other cells are small or have intervals that cross zero.")

# %% [markdown]
# **Check your guess:** nothing beyond its interval. But "male" and "glasses" each take a third of a smile away.
#
# ## Which layers carry age?
#
# The shipped formula moves layers 3 to 15. Why not all sixteen? The same two steps, in some of the layers only:
#
# > **Predict:** which layers carry the years? And what do the first three bring?

# %%
layers = {"0 to 2, left out": range(3), "3 and 4, coarse": (3, 4), "5 to 8, middle": range(5, 9), "9 to 15, fine": range(9, 16), "3 to 15, shipped": range(3, 16), "all sixteen": range(16)}
parts = {name: 2 * replace(older, layers=tuple(some)) for name, some in layers.items()}
found = effects.effects_of(faces, parts, [1], range(302_000, 302_016), judge, identity)
whom = found["all sixteen"].before
bare = (whom[:, 0] >= 18) & (whom[:, 0] <= 55) & (whom[:, 3] < 0.5)  # adults without glasses
print(f"{int(bare.sum())} adults            years   get glasses   identity distance")
for name, one in found.items():
    one = one.take(bare)
    print(f"{name:20} {one.change('age').mean():+6.0f} {int((one.after[0, :, 3] > 0.5).sum()):9} {one.identity.mean():17.2f}")

# %%
rows = torch.cat([person, *(parts[name](person) for name in layers)])
fig = plot.strip(images.resize(faces.preview(rows), 192), titles=["as she is", *(name.replace(", ", "\n") for name in layers)], caption="Layers 0 to 2 bring thin glasses and hardly a wrinkle. Lines come with the middle layers.")
plot.show(fig, alt="One woman seven times. Layers 0 to 2: thin glasses. 3 and 4: little. 5 to 8: lines, gray in the hair. 9 to 15: hardly anything. 3 to 15: an older "
          "woman. All sixteen: older still, with gray hair and glasses.")

# %% [markdown]
# **Check your guess.** The middle layers carry most of the years. The first three add few, and put glasses on people.
#
# %% [markdown]
# ## A sharper question
#
# The formula asks what old faces have in common. But we wanted: *what must change in **this** face to look older?* From w to the years that the predictor (the **finder**) reads, all is
# a network, so that question has a gradient. Start at two steps of the formula, give every layer its own vector, and ask for 30 years, the same person and the same colours:

# %%
import torch.nn.functional as F

from dvlatent.editing.optimize_edit import OptimizeEditConfig, optimize_edit
from dvlatent.whitening import Whitening

reader, space, moved = attributes.differentiable(), Whitening.plain(faces), torch.tensor(older.layers)  # the finder, with gradients
her = coordinates([20_030])
before = faces.preview(her)
start, she = reader(before)[0, 0], identity(before)


def tints(picture):
    """Colours without lightness, in 4 x 4 parts of the picture."""
    return F.adaptive_avg_pool2d(picture - picture.mean(dim=1, keepdim=True), 4)


# %%
def wish(vectors):
    """What is missing, the years gained, and the identity distance; the picture and its mirror image are read."""
    after = faces.preview(her.index_add(1, moved, vectors[None]))
    years, far = reader(torch.cat([after, after.flip(-1)]))[:, 0] - start, (identity(after) - she).norm()
    missing = F.softplus((30 - years) / 4).sum() + 37.5 * F.softplus(far - 0.5, beta=25) + 30 * tints(after - before).square().mean()
    return missing, years[0], far


first = 2 * older.step * older.vector.repeat(len(moved), 1)  # [13, 512]: two steps of the formula in each layer
config = OptimizeEditConfig(steps=1, batch=1, preserve={}, length_weight=0, first_seed=20_030)
step = next(optimize_edit(faces, older, reader, identity, config))
check("the loss by hand is optimize_edit's", wish(first)[0], step.loss, tol=1e-2)

# %% [markdown]
# > **Predict:** twelve updates, for this one woman. Will the loss fall? Will she look old?

# %% tags=["nbval-ignore-output"]
at = (first @ space.inverse).requires_grad_()  # in standard deviations of the population
adam = torch.optim.Adam([at], lr=0.05, betas=(0.9, 0.98))
for update in range(13):
    with torch.enable_grad():
        missing, years, far = wish(at @ space.axes)
        adam.zero_grad()
        missing.backward()
    if update % 3 == 0:
        print(f"after {update:2} updates: loss {missing:5.2f}; {years:+.0f} years, says the finder; identity distance {far:.2f}")
    adam.step()
flattered = faces.preview(her.index_add(1, moved, (at @ space.axes)[None]))
print(f"the judge, whom nobody asked: {judge(flattered)[0, 0] - judge(before)[0, 0]:+.0f} years")

# %%
sharper = dvlatent.load("age-edit")  # what comes with the library: an Edit, with a direction for each of 13 layers
row = torch.cat([before, faces.preview((2 * older)(her)), flattered, faces.preview(sharper(her))])
fig = plot.strip(row, titles=["as drawn", "formula", "gradient, for her", "gradient, for all"], caption="For her alone: fair hair, a pink tint, no wrinkles. For all: lines and folds, and her own hair.")
plot.show(fig, alt="A dark-haired young woman; by the formula older, with fair hair; by gradient for her alone, as young as before, with fair hair and a pink "
          "face; by the edit for all, older, with folds, lines and dark hair.")

# %% [markdown]
# **Check your guess.** The loss falls, and the finder is delighted. The judge is not: the gradient has found what *flatters the reader*, an **adversarial example**
# ([Goodfellow et al. 2015](https://arxiv.org/abs/1412.6572)). The edit that comes with the library asks better (`python recipes/age_edit.py`): one edit for hundreds of faces, a second
# reader that learned real people's ages, skin and hair that keep their colours. On unseen people, by the judge:

# %%
marks = effects.effects_of(faces, {"formula": 2 * older, "gradient, for all": 1.0 * sharper}, [1], range(320_000, 320_012), judge, identity)
grown = (marks["formula"].before[:, 0] >= 18) & (marks["formula"].before[:, 0] <= 55)
for name, one in marks.items():
    one = one.take(grown)
    print(f"{name:18} {around(one.change('age')[0], '.0f')} years, identity distance {around(one.identity[0])}")

# %% [markdown]
# ## How many faces are enough?
#
# We compare directions found on few faces with one found on ten thousand *others*.
#
# > **Predict:** with 200 faces, how many degrees are you off?

# %%
others = everybody.take(slice(10_000, None))  # the second half
w, other_w = w.double().numpy(), others.latents(faces)[1].double().numpy()
sizes = [100, 200, 500, 1000, 2000, 5000]
fits = {"difference of means": find.tail_difference, "regression": lambda w, age: find.ridge_regression(w, age, 1).vector}
curves = {}
for name, fit in fits.items():
    reference = fit(other_w, others.column("age").double().numpy())
    curves[name] = list(find.sample_curve(w, age.double().numpy(), sizes, reference, fit, repeats=4))
    print(f"{name:20}", *(f"{size}: {cosine.value:.2f} = {np.degrees(np.arccos(cosine.value)):.0f}°" for size, cosine in curves[name]), sep="   ")

# %%
fig, axes = plot.chart(height=4.4)
for color, (name, curve) in enumerate(curves.items()):
    value, low, high = (np.degrees(np.arccos([getattr(one, part) for _, one in curve])) for part in ("value", "low", "high"))
    axes.fill_between(sizes, low, high, color=plot.COLORS[color], alpha=0.2)
    axes.plot(sizes, value, "o-", color=plot.COLORS[color], label=name)
axes.set(xscale="log", xlabel="faces surveyed", ylabel="degrees from the one of 10,000 others", title="How many faces are enough?", ylim=(0, 90))
axes.set_xticks(sizes, sizes)
axes.minorticks_off()
axes.legend(loc="upper right")
plot.show(fig, alt="Two falling curves of degrees against the number of faces, 100 to 5,000: the difference of means from about 30 to 7, the regression from about 60 to 20.")

# %% [markdown]
# **Check your guess.** A cosine of 0.91 sounds like "nearly right", and is 24°. A regression asks "what, all else equal?" of 512 numbers at once: it needs thousands.
#
# ## What if nobody says what to look for?
#
# **PCA** takes the axes along which w varies most ([GANSpace](https://arxiv.org/abs/2004.02546)); **SeFa** ([Shen and Zhou 2021](https://arxiv.org/abs/2007.06600)) reads off the weights which w the styles
# feel most. The survey's scores suggest names.

# %%
from dvlatent.editing import unsupervised

axes_found = unsupervised.principal_directions(faces, 3, seeds=range(3000)) + unsupervised.sefa(faces, "middle", 1, seeds=range(3000))
table = unsupervised.correlations(axes_found, faces, population)
axes_found = unsupervised.name_by(axes_found, population.names, table)
for one in axes_found:
    print(one.name)

# %%
rows = torch.cat([one.move(you, amount) for amount in (-2.5, 2.5) for one in axes_found])
names = [one.name.replace(" (", "\n(") for one in axes_found]
fig = plot.labeled_grid(faces.preview(rows), rows=["−2.5 steps", "+2.5 steps"], columns=names, caption="PC1 and PC2 change gender, hair and more at once; PC3 turns the head; SeFa1 changes light and smile a little.")
plot.show(fig, alt="One woman moved both ways along four axes. PC1: a younger woman, a man. PC2: a man with glasses, a woman with long hair. PC3: the head "
          "turned away and toward us. SeFa1: nearly the same woman with less of a smile.")

# %% [markdown]
# The axis along which people differ *most* is seldom one word.
#
# ## Exercises
#
# Replace `...`, run the cell.

# %% [markdown]
# ### Exercise 1: the formula of smiling
# The mean w of the tenth of the population that smiles most, minus that of the tenth that smiles least.

# %% tags=["exercise"]
smiling = ...  # your lines; population.column("smile") and w are there
check("exercise 1", smiling, find.tail_difference(w, population.column("smile").double().numpy(), 0.1), tol=1e-2)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# smile = population.column("smile")
# low, high = smile.quantile(0.1), smile.quantile(0.9)
# smiling = w[smile >= high].mean(axis=0) - w[smile <= low].mean(axis=0)
# ```
#
# Any word that a predictor knows becomes a direction.
# </details>

# %% [markdown]
# ### Exercise 2: older, and nothing else of two
# Remove *both* gender and smile from the raw formula, by the closed form `v − G (GᵀG)⁻¹ Gᵀ v`. A vector of length one.

# %% tags=["exercise"]
smile_axis = find.find(faces, population, "smile")
pure = ...  # your lines; G has two columns
check("exercise 2", pure, raw.without(gender, smile_axis).vector, hint="torch.stack([...], dim=1) makes G; divide by the length at the end")

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# G = torch.stack([gender.vector, smile_axis.vector], dim=1)  # [512, 2]
# pure = raw.vector - G @ torch.linalg.solve(G.T @ G, G.T @ raw.vector)
# pure = pure / pure.norm()
# ```
#
# A move along it leaves both coordinates where they were.
# </details>

# %% [markdown]
# ### Exercise 3: the regression, by hand
# The direction "turn" came from **ridge regression** ([Hoerl and Kennard 1970](https://doi.org/10.1080/00401706.1970.10488634)): `|score − x v|² + ridge |v|²` is smallest for `v = (xᵀx + ridge · I)⁻¹ xᵀ score`.
# Both have their means taken away, and `x` is divided by one number, so that its squares sum to 512. Give `v` with length one.


# %% tags=["exercise"]
def regression(w, score, ridge):
    """[face, 512], [face] -> [512]."""
    ...  # your lines


check("exercise 3", regression, lambda f: abs(np.asarray(f(w, population.column("yaw").double().numpy(), 1)) - named["turn"].vector.numpy()).max() < 1e-3 or "solve (x.T @ x + ridge * I) v = x.T @ score, then divide v by its length")

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def regression(w, score, ridge):
#     x = w - w.mean(axis=0)
#     x = x / np.sqrt((x**2).sum() / 512)
#     y = score - score.mean()
#     v = np.linalg.solve(x.T @ x + ridge * np.eye(512), x.T @ y)
#     return v / np.linalg.norm(v)
# ```
#
# Where LDA compares two ends, this uses the score of every face.
# </details>

# %% [markdown]
# ### An open question
# Judge and finder agree about whom they call old. Which mistake could both make, and what would you need to find it out?

# %% [markdown]
# ## The answer
#
# **Question:** is there one direction along which every face grows older, and does nothing else change along it?
#
# **Answer:** the first, nearly; the second, no. The difference of two groups is everything in which they differ: it made men of women. Balanced and projected,
# most of that leak is gone; but nobody stays quite the same.
#
# ## What next
#
# Your own face is a point of this space, too: [06 · Is your own photo somewhere in there?](06_inversion.ipynb)
# finds it.
