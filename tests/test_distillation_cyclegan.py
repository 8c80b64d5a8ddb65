"""CycleGAN: the law of its pool, its first step by hand, its loop after a stop; it learns without pairs; its recipe."""

from dataclasses import replace

import cyclegan as recipe
import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from dvlatent import checkpoint
from dvlatent.distillation.cyclegan import CycleGAN, CycleGANConfig, ImagePool, train_cyclegan
from dvlatent.errors import CheckpointError, ShapeError, TrainingDiverged
from dvlatent.zoo import LOADERS, read_cyclegan

SMALL = CycleGANConfig(steps=5, batch=2, coarse_steps=0, cooldown=0.0, pool=3)


class Grays:
    """Pictures of one brightness, a little noisy."""

    def __init__(self, level, count=10, side=32):
        self.pictures = level + 0.1 * torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(int(10 * level) + 50))

    def __len__(self):
        return len(self.pictures)

    def batch(self, indices):
        return self.pictures[list(indices)]


DARK, LIGHT = Grays(-0.5), Grays(0.5)


def net(seed=0):
    torch.manual_seed(seed)
    return CycleGAN(width=4, blocks=1, discriminator_width=4, downs=1)


def weights(net):
    return torch.cat([value.detach().flatten().clone() for value in net.state_dict().values()])


def numbered(*numbers):
    return torch.tensor(numbers, dtype=torch.float32).view(-1, 1, 1, 1)


def test_the_pool_gives_back_what_comes_until_it_is_full():
    pool = ImagePool(3)
    for first in (0, 2):
        came = numbered(first, first + 1)
        assert torch.equal(pool.swap(came, torch.zeros(2, 2))[: 3 - first], came[: 3 - first])
    assert len(pool.kept) == 3


def test_a_full_pool_returns_the_new_or_swaps_it_for_an_old_one():
    pool = ImagePool(3)
    pool.swap(numbered(10, 11, 12), torch.zeros(3, 2))
    assert pool.swap(numbered(20), torch.tensor([[0.7, 0.4]])).item() == 20 and pool.kept.flatten().tolist() == [10, 11, 12]
    assert pool.swap(numbered(21), torch.tensor([[0.2, 0.4]])).item() == 11 and pool.kept.flatten().tolist() == [10, 21, 12]


def test_the_pool_law():
    """Of many pictures half come back at once; the others wait for twice as many further ones, on average, as the pool holds."""
    pool, rng, waits = ImagePool(50), torch.Generator().manual_seed(0), []
    for number in range(6000):
        back = int(pool.swap(numbered(number), torch.rand(1, 2, generator=rng)).item())
        if number >= 1000:
            waits.append(number - back)
    waits = torch.tensor(waits, dtype=torch.float64)
    assert abs((waits == 0).double().mean() - 0.5) < 0.03
    assert abs(waits[waits > 0].mean() / (2 * pool.size) - 1) < 0.1  # each further picture takes a given place with probability 1/100


def test_no_pool_and_pictures_that_grew():
    assert torch.equal(ImagePool(0).swap(numbered(1, 2), torch.zeros(2, 2)), numbered(1, 2))
    pool = ImagePool(2)
    pool.swap(torch.zeros(2, 3, 8, 8), torch.zeros(2, 2))
    grown = torch.ones(1, 3, 16, 16)
    assert torch.equal(pool.swap(grown, torch.zeros(1, 2)), grown) and len(pool.kept) == 1


def test_the_first_step_is_the_papers():
    """Zhu et al. 2017, equations 1 to 3 with squares instead of logarithms, and the identity loss of section 5.2."""
    (step,) = train_cyclegan(net(), DARK, LIGHT, replace(SMALL, steps=1, pool=0))
    mine, rng = net(), torch.Generator().manual_seed(SMALL.seed)

    def sample(pictures):
        chosen = torch.randint(10, (2,), generator=rng).tolist()
        mirrored = torch.rand(2, generator=rng) < 0.5
        return torch.stack([one.flip(2) if turn else one for one, turn in zip(pictures.batch(chosen), mirrored, strict=True)])

    a, b = sample(DARK), sample(LIGHT)
    fake_b, fake_a = mine.there(a), mine.back(b)
    adversarial = (mine.discriminator_b(fake_b)[-1] - 1).square().mean() + (mine.discriminator_a(fake_a)[-1] - 1).square().mean()
    cycle = F.l1_loss(mine.back(fake_b), a) + F.l1_loss(mine.there(fake_a), b)
    same = F.l1_loss(mine.there(b), b) + F.l1_loss(mine.back(a), a)
    loss = adversarial + 10 * cycle + 5 * same
    rows = [(mine.discriminator_a, a, fake_a), (mine.discriminator_b, b, fake_b)]
    of_discriminators = sum(((d(real)[-1] - 1).square().mean() + d(fake.detach())[-1].square().mean()) / 2 for d, real, fake in rows)
    assert step.losses == pytest.approx({"adversarial": adversarial.item(), "cycle": cycle.item(), "same": same.item()}, rel=1e-4)
    assert (step.loss, step.discriminator_loss) == pytest.approx((loss.item(), of_discriminators.item()), rel=1e-4)
    adam = torch.optim.Adam(mine.generator_parameters(), SMALL.lr, (0.5, 0.999))
    adam.zero_grad()
    loss.backward()
    adam.step()
    assert_close(step.net.there[1].weight, mine.there[1].weight)


def test_a_stop_changes_no_bit(tmp_path):
    config = replace(SMALL, steps=6, cooldown=0.5)
    *_, whole = train_cyclegan(net(), DARK, LIGHT, config)
    for step in train_cyclegan(net(), DARK, LIGHT, config):
        if step.index == 3:  # the pool is full by then
            step.save(tmp_path / "run.safetensors")
            break
    *_, on = train_cyclegan(net(5), DARK, LIGHT, config, resume=tmp_path / "run.safetensors")
    assert on.loss == whole.loss
    assert torch.equal(weights(on.net), weights(whole.net)) and torch.equal(weights(on.ema), weights(whole.ema))


def test_it_finds_the_way_there_and_back_without_pairs():
    """Dark pictures here, light ones there: dark becomes lighter, and comes back."""
    config = CycleGANConfig(steps=70, batch=1, coarse_steps=0, lr=2e-3, cooldown=0.5, ema_images=50)
    steps = list(train_cyclegan(net(), DARK, LIGHT, config))
    assert sum(step.losses["cycle"] for step in steps[-10:]) < 0.5 * sum(step.losses["cycle"] for step in steps[:10])
    with torch.no_grad():
        there = steps[-1].ema(DARK.pictures)
    assert there.mean() > 0


def test_refuses_in_words():
    with pytest.raises(ShapeError, match="cannot be trained on"):
        next(train_cyclegan(net(), DARK, Grays(0.5, count=0), SMALL))
    broken = Grays(0.5)
    broken.pictures[:] = float("nan")
    with pytest.raises(TrainingDiverged, match="broke at step 0"):
        next(train_cyclegan(net(), DARK, broken, SMALL))


@pytest.fixture
def small_recipe(monkeypatch):
    """Toy faces of the survey's seeds in the place of the real ones, and small networks."""
    drawn = []

    class Stub:
        z_dim, num_layers, w_mean = 512, 16, torch.zeros(512)

        def mapping(self, z):
            return z

        def preview(self, ws):
            drawn.append(len(ws))
            return ws[:, 0, :3, None, None].tanh().expand(-1, 3, recipe.SIDE_PX, recipe.SIDE_PX)

    monkeypatch.setattr(recipe, "SIDE_PX", 32)
    monkeypatch.setattr(recipe, "SIZES", {"width": 4, "blocks": 1, "discriminator_width": 4, "downs": 3})
    monkeypatch.setitem(LOADERS, "faces", Stub)
    return drawn


def test_the_recipe_writes_both_generators(small_recipe, tmp_path):
    recipe.make(tmp_path / "c.safetensors", tmp_path / "pool", faces=3, steps=2)
    assert not list(tmp_path.glob("*.run.safetensors")) and small_recipe == 6 * [1]  # three of each kind
    read, image = read_cyclegan(tmp_path / "c.safetensors"), torch.rand(1, 3, 32, 32)
    tensors, about = checkpoint.load(tmp_path / "c.safetensors", "cyclegan")
    assert read.name == "age" and not any(name.startswith("discriminator") for name in tensors)
    assert about["command"] == "python recipes/cyclegan.py --out c.safetensors --faces 3 --steps 2"
    assert not torch.equal(read.network(image, torch.ones(1)), read.network(image, -torch.ones(1)))
    checkpoint.save(tmp_path / "broken.safetensors", tensors, {"kind": "cyclegan"})
    with pytest.raises(CheckpointError, match="is not a complete CycleGAN"):
        read_cyclegan(tmp_path / "broken.safetensors")


def test_faces_of_the_recipe_are_drawn_once_and_kept(small_recipe, tmp_path):
    for _ in range(2):
        faces = recipe.draw_kind(LOADERS["faces"](), tmp_path, "old", 2)
        assert len(faces) == 2 and faces.batch([0, 1]).shape == (2, 3, 32, 32) and small_recipe == [1, 1]
    with pytest.raises(ShapeError, match="the survey has"):
        recipe.draw_kind(LOADERS["faces"](), tmp_path, "old", 50_000)
