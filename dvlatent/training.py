"""What all trainings share: their state on disk, learning rates, the moving average, several processes, mixed precision, a bar."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn
from tqdm import tqdm

from dvlatent import checkpoint, files
from dvlatent.errors import CheckpointError, ShapeError, TrainingDiverged

RAMP = 0.05  # a moving average never looks back further than this fraction of the run so far (Karras et al. 2020b, appendix B)
ADAM = frozenset({"step", "exp_avg", "exp_avg_sq"})  # what Adam remembers of each weight
Weights = dict[str, Tensor]
Step = TypeVar("Step")  # of any training: it has an `index`, from 0


class Augment(Protocol):
    """A change that pictures go through before a network sees them, such as `gan.data.Warp`."""

    def draw(self, count: int, rng: torch.Generator) -> Tensor:
        """The random numbers of `count` pictures, one row each."""
        ...

    def __call__(self, image: Tensor, numbers: Tensor) -> Tensor:
        """The pictures, changed as their rows say; differentiable."""
        ...


class TrainingState:
    """Everything that a training changes: networks, optimizers, more tensors, the random number generators and the number of the step.

    `config` is a frozen dataclass with `steps` and `seed`, and `cooldown` where the learning rates fall. `networks` are modules, or
    anything with `state_dict` and `load_state_dict`. A run that continues after `save` and `load` equals one that never stopped, bit for
    bit.
    """

    def __init__(self, config: Any, networks: Mapping[str, Any], optimizers: Mapping[str, torch.optim.Optimizer]) -> None:
        self.config, self.networks, self.optimizers, self.index = config, dict(networks), dict(optimizers), 0
        self.tensors: Weights = {}  # what else the training must remember
        self.lrs = {name: [group["lr"] for group in optimizer.param_groups] for name, optimizer in self.optimizers.items()}
        self.rng = torch.Generator().manual_seed(config.seed)

    def scale_lr(self, factor: float) -> None:
        """Set every learning rate to `factor` times what it was when the training began; see `cooldown` and `warmup_cosine`."""
        for name, optimizer in self.optimizers.items():
            for group, lr in zip(optimizer.param_groups, self.lrs[name], strict=True):
                group["lr"] = factor * lr

    def update(self, name: str, loss: Tensor, accelerator: Any = None, clip: float = math.inf) -> None:
        """One step of one optimizer down the gradient of all processes, no longer than `clip`."""
        optimizer = self.optimizers[name]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        reduce_gradients(optimizer, accelerator)
        if math.isfinite(clip):
            torch.nn.utils.clip_grad_norm_([weight for group in optimizer.param_groups for weight in group["params"]], clip)
        optimizer.step()

    def save(self, path: Path | str) -> None:
        """Write all of it: tensors as safetensors, the rest as JSON inside."""
        tensors = {f"{part}.{name}": value for part, network in self.networks.items() for name, value in network.state_dict().items()}
        for part, optimizer in self.optimizers.items():
            for number, memory in optimizer.state_dict()["state"].items():
                tensors |= {f"{part}.{number}.{name}": value for name, value in memory.items()}
        tensors |= {f"tensors.{name}": value for name, value in self.tensors.items()}
        tensors |= {"rng": self.rng.get_state(), "torch_rng": torch.get_rng_state()}
        checkpoint.save(path, {name: value.clone() for name, value in tensors.items()}, {"kind": "training", **self.metadata()})

    def load(self, path: Path | str) -> None:
        """Go back to where `save` was called. Raises CheckpointError for a run of another config, or for one that is finished."""
        tensors, description = checkpoint.load(path, "training")
        theirs, mine = description.get("config"), self.metadata()["config"]
        if not isinstance(theirs, dict) or {**theirs, "steps": 0} != {**mine, "steps": 0}:
            raise CheckpointError(
                f"{path} was trained with {theirs}; this run wants {mine}. Only `steps` may differ: give the same config, or delete the "
                "file to start again."
            )
        try:
            index, planned = (files.number(number, 0, 2**40, whole=True) for number in (description["index"], theirs["steps"]))
        except (KeyError, ValueError) as error:
            raise CheckpointError(f"{path} does not say how far it came: {error}. Delete it to start again.") from error
        cooldown = getattr(self.config, "cooldown", 1.0)  # without one, the learning rate depends on `steps` from the start
        if index >= self.config.steps or (planned != self.config.steps and index > (1 - cooldown) * planned):
            raise CheckpointError(
                f"{path} has done {index} of {planned} steps and cannot go on toward {self.config.steps}: once the learning rates "
                "fall, the end is fixed. Ask for the steps it was begun with, or delete the file to start again."
            )
        try:
            for part, network in self.networks.items():
                checkpoint.load_weights(network, _under(tensors, part), f"{part} of {path}")
            for part, optimizer in self.optimizers.items():
                memory: dict[int, Weights] = {}
                weights = [weight for group in optimizer.param_groups for weight in group["params"]]
                for name, value in _under(tensors, part).items():
                    number, _, key = name.partition(".")
                    if not value.is_floating_point() or value.shape != (() if key == "step" else weights[int(number)].shape):
                        raise ValueError(f"'{part}.{name}' is {value.dtype} of shape {list(value.shape)}")
                    memory.setdefault(int(number), {})[key] = value
                kept = set(map(frozenset, memory.values()))
                if len(kept) > 1 or (kept and isinstance(optimizer, torch.optim.Adam) and kept != {ADAM}):
                    raise ValueError(f"'{part}' remembers another thing for each weight")
                optimizer.load_state_dict({**optimizer.state_dict(), "state": memory})
            self.tensors = _under(tensors, "tensors")
            self.rng.set_state(tensors["rng"])
            torch.set_rng_state(tensors["torch_rng"])
        except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{path} is no complete training run: {error}. Delete it to start again.") from error
        self.index = index

    def metadata(self) -> dict[str, Any]:
        """What the file says about itself."""
        return {"config": asdict(self.config), "index": self.index}


def cooldown(index: int, steps: int, fraction: float) -> float:
    """The factor of a learning rate that is constant, then falls in a line to zero over the last `fraction` of the steps.

    Wang et al. 2018, section 4, train in this way.
    """
    return min(1.0, (steps - index) / (fraction * steps)) if fraction else 1.0


def warmup_cosine(index: int, steps: int, warmup: int = 100) -> float:
    """The factor of a learning rate that rises in a line for `warmup` steps and falls along a cosine (Loshchilov and Hutter 2017)."""
    return min(1.0, (index + 1) / warmup) * (0.5 + 0.5 * math.cos(math.pi * index / steps))


@torch.no_grad()
def update_ema(ema: nn.Module, network: nn.Module, decay: float) -> None:
    """Move an exponential moving average toward a network: decay 0 copies it, 1 changes nothing. Buffers are copied."""
    for mine, latest in zip(ema.parameters(), network.parameters(), strict=True):
        mine.lerp_(latest, 1 - decay)
    for mine, latest in zip(ema.buffers(), network.buffers(), strict=True):
        mine.copy_(latest)


def ema_decay(images: int, batch: int, half_life: float) -> float:
    """The decay that renews half of an average every `half_life` pictures, sooner early in a run that has seen `images` of them."""
    half_life = min(half_life, RAMP * images)
    return 0.5 ** (batch / half_life) if half_life else 0.0


def warm_decay(index: int, most: float) -> float:
    """A decay that begins at 0.1 and grows to `most`, so that a short run forgets its first weights."""
    return min(most, (index + 1) / (index + 10))


def shard(batch: int, accelerator: Any) -> slice:
    """Which pictures of a batch belong to this process. Raises ShapeError if the processes cannot share the batch evenly."""
    if accelerator is None:
        return slice(None)
    if batch % accelerator.num_processes:
        raise ShapeError(f"a batch of {batch} cannot be shared by {accelerator.num_processes} processes: make it a multiple.")
    each = batch // accelerator.num_processes
    return slice(each * accelerator.process_index, each * (accelerator.process_index + 1))


def reduce_gradients(optimizer: torch.optim.Optimizer, accelerator: Any) -> None:
    """Replace the gradients by their mean over all processes: the gradient of the whole batch, since each sees as many pictures."""
    if accelerator is None or accelerator.num_processes == 1:
        return
    gradients = [weight.grad for group in optimizer.param_groups for weight in group["params"] if weight.grad is not None]
    whole = accelerator.reduce(torch.cat([gradient.flatten() for gradient in gradients]), "mean")
    for gradient, mean in zip(gradients, whole.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def finite(index: int, losses: Mapping[str, Tensor], accelerator: Any = None) -> dict[str, float]:
    """Losses of a step as numbers, averaged over all processes. Raises TrainingDiverged, which says them, if one is not finite."""
    values = torch.stack([loss.detach() for loss in losses.values()])
    values = (values if accelerator is None else accelerator.reduce(values, "mean")).tolist()
    named = dict(zip(losses, values, strict=True))
    if not all(map(math.isfinite, values)):
        raise TrainingDiverged(f"training broke at step {index}: {named}. Go back to the last checkpoint and lower the learning rates.")
    return named


def progress(
    steps: Iterable[Step], total: int, words: Callable[[Step], str], *, quiet: bool = False, save: Path | None = None, every: int = 50
) -> Iterator[Step]:
    """A progress bar over the steps of a training, which may have begun earlier; `words` describe a step, `quiet` hides the bar.

    With `save`, the step is written there by its own `save` every so many steps, except the last one: the training can go on from it.
    """
    with tqdm(total=total, unit="step", desc="training", disable=quiet) as bar:
        for step in steps:
            if not bar.n:
                bar.initial = bar.n = bar.last_print_n = step.index  # done before: not part of the speed
            bar.set_postfix_str(words(step), refresh=False)
            bar.update()
            if save is not None and (step.index + 1) % every == 0 and step.index + 1 < total:
                step.save(save)
            yield step


def accelerated() -> Any:
    """The package accelerate's view of this process, if it was started as one of several, or with mixed precision; else None."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 and os.environ.get("ACCELERATE_MIXED_PRECISION", "no") == "no":
        return None
    from accelerate import Accelerator

    return Accelerator(cpu=not torch.cuda.is_available())


def finish(accelerator: Any) -> None:
    """Wait for all processes and part: one that leaves first may abort the others, whose connections go with it."""
    if accelerator is not None:
        accelerator.wait_for_everyone()
        accelerator.end_training()


def device_of(accelerator: Any) -> torch.device:
    """Where to train: on the accelerator's device, else on a GPU where there is one."""
    return accelerator.device if accelerator else torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast(device: torch.device, bf16: bool, accelerator: Any = None) -> AbstractContextManager[Any]:
    """Mixed precision: as `accelerate launch --mixed_precision bf16` asks, or the config's `bf16`. Raises ShapeError for fp16."""
    precision = "no" if accelerator is None else accelerator.mixed_precision
    if precision not in ("no", "bf16"):
        raise ShapeError(f"mixed precision '{precision}' is not offered here, bf16 is: say --mixed_precision bf16, or no.")
    return torch.autocast(device.type, torch.bfloat16, enabled=bf16 or precision == "bf16")


def _under(tensors: Mapping[str, Tensor], part: str) -> Weights:
    """The tensors of one part, without its name."""
    return {name[len(part) + 1 :]: value for name, value in tensors.items() if name.startswith(part + ".")}
