"""StyleGAN2's training: the discriminator against a slow one, losses in closed form, itself after a stop, and itself in two processes."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_stylegan_stylegan2 import slow_fir
from torch.nn import functional as F
from torch.testing import assert_close

from dvlatent.errors import ShapeError
from dvlatent.stylegan.ada import CHANGES, Ada
from dvlatent.stylegan.stylegan2 import StyleGAN2, StyleGAN2Config
from dvlatent.stylegan.stylegan2_train import Discriminator, StyleGAN2TrainConfig, minibatch_std, path_lengths, train_stylegan2
from dvlatent.training import finish

SIZES = StyleGAN2Config(channels=(8, 8, 6), z_dim=6, w_dim=5, mapping_layers=2)
QUICK = StyleGAN2TrainConfig(steps=4, batch=8, lazy_r1=2, lazy_path=3)
PICTURES = np.random.RandomState(0).randint(0, 256, (20, 16, 16, 3)).astype(np.uint8)


def pair(sizes=SIZES):
    torch.manual_seed(0)
    return StyleGAN2(sizes), Discriminator(sizes)


def outcome(steps):
    """What a run ends with: its numbers, and a sum for each tensor of its networks."""
    *_, last = steps
    tensors = [*last.ema.state_dict().values(), *last.discriminator.state_dict().values()]
    return [last.generator_loss, last.penalty, last.path_length, last.real_score, last.ada], [float(one.double().sum()) for one in tensors]


def test_the_discriminator_of_config_f_has_the_published_number_of_parameters():
    with torch.device("meta"):
        assert sum(value.numel() for value in Discriminator(StyleGAN2Config()).parameters()) == 29_012_513


def test_the_discriminator_equals_one_written_slowly():
    _, net = pair()
    state = {name: value.detach() for name, value in net.state_dict().items()}
    x = torch.randn(1, 3, 16, 16)

    def conv(name, x, **how):
        weight = state[f"{name}.weight"]
        return F.conv2d(x, weight / weight[0].numel() ** 0.5, state.get(f"{name}.bias"), **how)

    def active(x):
        return torch.where(x > 0, x, 0.2 * x) * 2**0.5

    def blurred(x, padding):
        return torch.stack([slow_fir(F.pad(one, [padding] * 4)) for one in x[0]])[None]

    y = active(conv("from_image", x))
    for i in range(2):
        skip = conv(f"blocks.{i}.skip", blurred(y, 1)[..., ::2, ::2])
        y = active(conv(f"blocks.{i}.conv0", y, padding=1))
        y = (active(conv(f"blocks.{i}.conv1", blurred(y, 2), stride=2)) + skip) / 2**0.5
    y = active(conv("conv", torch.cat([y, torch.full((1, 1, 4, 4), 1e-4)], 1), padding=1))  # one picture does not differ from itself
    for name in ("hidden", "score"):
        y = F.linear(y.flatten(1), state[f"{name}.weight"], 0 * state[f"{name}.bias"]) / state[f"{name}.weight"].shape[1] ** 0.5
        y = active(y) if name == "hidden" else y
    assert_close(net(x).detach(), y[:, 0])


def test_minibatch_std_compares_the_pictures_of_a_group():
    x = torch.zeros(8, 2, 4, 4)
    x[:2, 0], x[2:4, 0] = 3.0, -3.0  # a deviation of 3 in one of two channels of the first group, none in the second
    found = minibatch_std(x)[:, 2]
    assert_close(found, torch.cat([torch.full((4, 4, 4), 1.5), torch.zeros(4, 4, 4)]), rtol=1e-3, atol=1e-3)
    y = torch.randn(8, 2, 4, 4)
    assert torch.equal(minibatch_std(y)[4:], minibatch_std(y[4:]))  # so processes that share a batch see the same


def test_path_lengths_of_a_linear_generator_are_in_closed_form():
    """Pictures A w: the gradient is A's transpose on the noise, over the root of the pixels."""
    a, ws, noise = torch.randn(3 * 4 * 4, 5), torch.randn(2, 1, 5, requires_grad=True), torch.randn(2, 3, 4, 4)
    found = path_lengths((ws[:, 0] @ a.T).view(2, 3, 4, 4), ws, noise)
    assert_close(found, (noise.flatten(1) / 4 @ a).norm(dim=1))


def test_it_goes_on_after_a_stop_bit_for_bit(tmp_path):
    config = replace(QUICK, ada_target=-2.0, ada_images=64.0)  # augments from the fifth step on
    for step in train_stylegan2(*pair(), PICTURES, replace(config, steps=6)):
        if step.index == 4:
            step.save(tmp_path / "run.safetensors")
            torch.manual_seed(9)  # another process: its random numbers stand elsewhere
            resumed = outcome(train_stylegan2(*pair(), PICTURES, replace(config, steps=6), resume=tmp_path / "run.safetensors"))
            break
    assert resumed == outcome(train_stylegan2(*pair(), PICTURES, replace(config, steps=6)))


@pytest.mark.parametrize(("target", "ada"), [(-2.0, 0.25), (1.0, 0.0)])
def test_ada_acts_when_the_discriminator_knows_the_pictures_by_heart(target, ada):
    """Every fourth step, by four batches over `ada_images`, up while the mean sign lies above the target."""
    *_, step = train_stylegan2(*pair(), PICTURES, replace(QUICK, steps=8, ada_target=target, ada_images=256.0))
    assert step.ada == ada


def test_it_learns_a_color():
    orange = np.tile(np.uint8([230, 130, 40]), (8, 8, 8, 1))
    small = StyleGAN2Config(channels=(8, 8), z_dim=4, w_dim=4, mapping_layers=2)
    config = StyleGAN2TrainConfig(steps=80, batch=8, lr=0.01, gamma=1.0, lazy_r1=4, path_weight=0.0, ema_images=200.0)
    *_, step = train_stylegan2(*pair(small), orange, config)
    with torch.no_grad():
        drawn = step.ema.synthesis(step.ema.mapping(torch.randn(16, 4))[:, None].expand(-1, 4, -1))
    assert_close(drawn.mean(dim=(0, 2, 3)), torch.tensor([230, 130, 40]) / 127.5 - 1, rtol=0, atol=0.1)
    assert drawn.std(dim=(0, 2, 3)).max() < 0.3


@pytest.mark.parametrize("pictures", [PICTURES[:0], PICTURES[:, :8]])
def test_other_pictures_are_refused_in_words(pictures):
    with pytest.raises(ShapeError, match=r"learns from uint8 pictures \[picture, 16, 16, 3\]"):
        next(train_stylegan2(*pair(), pictures, QUICK))


def ada(image, **numbers):
    """One picture, changed by those of `CHANGES` that are named, with these amounts."""
    row = torch.full((1, 24), 0.999)
    row[:, 17:] = 0.0
    for name, (column, amount) in numbers.items():
        row[0, CHANGES.index(name.replace("_", " "))] = 0.0
        if column:
            row[0, column] = amount
    return Ada(0.9)(image, row)


def test_each_augmentation_does_what_it_says():
    image = torch.rand(1, 3, 8, 8) * 2 - 1
    assert torch.equal(Ada(0.0).draw(3, torch.Generator().manual_seed(0)), Ada(1.0).draw(3, torch.Generator().manual_seed(0)))
    assert_close(Ada(0.0)(image, Ada(0.0).draw(1, torch.Generator())), image)
    assert_close(ada(image, mirror=(0, 0)), image.flip(3))
    assert_close(ada(image, quarter_turn=(12, 0.3)), image.rot90(1, (2, 3)))
    assert_close(ada(image, pixels=(13, 1.0))[..., :7, :7], image[..., 1:, 1:])  # an eighth of the side, both ways
    assert_close(ada(image, size=(17, 0.0)), image)
    assert_close(ada(image, brightness=(21, 1.5)), image + 0.3)
    assert_close(ada(image, contrast=(22, 2.0)), 2 * image)
    gray = image.mean(dim=1, keepdim=True)
    assert_close(ada(image, saturation=(23, 1.0)), gray + 2 * (image - gray))
    assert_close(ada(image, luma=(0, 0)), image - 2 * gray)
    hue = ada(image, hue=(16, 2 / 3 + 1 / 6))  # a third of the circle: colors change places
    assert_close(hue, image.roll(1, dims=1))


def small_run(accelerator=None):
    return outcome(train_stylegan2(*pair(), PICTURES, replace(QUICK, noise="const"), accelerator=accelerator))


def test_two_processes_train_as_one(tmp_path):
    """Over gloo, on the CPU: the same losses and weights as one process with the same global batch."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", __file__, str(tmp_path / "two.json")]
    tests = Path(__file__).resolve().parent
    here = {**os.environ, "PYTHONPATH": f"{tests.parent}{os.pathsep}{tests}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(launch, env=here, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    processes, losses, sums = json.loads((tmp_path / "two.json").read_text())
    alone, sums_alone = small_run()
    assert processes == 2
    assert_close(torch.tensor(losses), torch.tensor(alone), rtol=1e-3, atol=1e-4)
    assert_close(torch.tensor(sums), torch.tensor(sums_alone), rtol=1e-3, atol=1e-3)


if __name__ == "__main__":  # in one of the two processes
    from accelerate import Accelerator

    both = Accelerator(cpu=True)
    result = small_run(both)
    if both.is_main_process:
        Path(sys.argv[1]).write_text(json.dumps([both.num_processes, *result]))
    finish(both)
