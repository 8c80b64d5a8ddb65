"""What trainings share: state on disk, batches in several processes, mixed precision, a running average, falling rates, a bar."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from tqdm import tqdm

from dvlatent.checkpoints import format
from dvlatent.errors import CheckpointError, ShapeError

RAMP = 0.05  # an average never looks back further than this share of the run so far (Karras et al. 2020b, appendix B)
Weights = dict[str, Tensor]
Step = TypeVar("Step")  # of any training: it has an `index`, from 0


class Running:
    """Everything of a training that changes: networks, optimisers, more tensors, the dice and the number of the step.

    `config` is a frozen dataclass with `steps`, `cooldown` and `seed`. `save` and `load` go on bit for bit.
    """

    def __init__(
        self,
        config: Any,
        nets: Mapping[str, nn.Module],
        adams: Mapping[str, torch.optim.Optimizer],
    ) -> None:
        self.config, self.nets, self.adams, self.index = config, dict(nets), dict(adams), 0
        self.more: dict[str, Tensor] = {}  # whatever else a training must remember
        self.rates = {name: adam.param_groups[0]["lr"] for name, adam in self.adams.items()}
        self.dice = torch.Generator().manual_seed(config.seed)

    def cool(self) -> None:
        """Lower all rates in a straight line to zero over the last share of the steps (as Wang et al. 2018, section 4, do)."""
        cool(self.adams, self.rates, self.config, self.index)

    def learn(self, name: str, loss: Tensor, accelerator: Any) -> None:
        """One step of one optimiser, with the gradients of all processes."""
        adam = self.adams[name]
        adam.zero_grad(set_to_none=True)
        loss.backward()
        share_gradients(adam, accelerator)
        adam.step()

    def save(self, path: Path | str) -> None:
        """Write all of it: tensors as safetensors, the rest as JSON inside."""
        tensors = {f"{part}.{name}": value for part, net in self.nets.items() for name, value in net.state_dict().items()}
        for part, adam in self.adams.items():
            tensors |= memory_of(adam, part)
        tensors |= {f"more.{name}": value for name, value in self.more.items()}
        tensors |= {"dice": self.dice.get_state(), "torch_dice": torch.get_rng_state()}
        format.save(path, {name: value.clone() for name, value in tensors.items()}, {"kind": "training", **self.about()})

    def load(self, path: Path | str) -> None:
        """Go back to where `save` was called. Raises CheckpointError for the run of another config, or one that is done."""
        tensors, description = format.load(path, "training")
        its, mine = description.get("config"), self.about()["config"]
        if not isinstance(its, dict) or {**its, "steps": 0} != {**mine, "steps": 0}:
            raise CheckpointError(
                f"{path} was trained with {its}; this run wants {mine}. Only `steps` may differ: give the same config, or start anew."
            )
        index, planned = int(description["index"]), int(its["steps"])
        if index >= self.config.steps or (planned != self.config.steps and index > (1 - self.config.cooldown) * planned):
            raise CheckpointError(
                f"{path} has {index} of {planned} steps behind it and cannot go on toward {self.config.steps}: "
                "once its rates fall, the end is fixed. Ask for the steps it was begun with, or start anew."
            )
        try:
            for part, net in self.nets.items():
                format.load_weights(net, under(tensors, part), f"{part} of {path}")
            for part, adam in self.adams.items():
                remember(adam, under(tensors, part))
            self.more = under(tensors, "more")
            self.dice.set_state(tensors["dice"])
            torch.set_rng_state(tensors["torch_dice"])
        except (KeyError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{path} is no whole training run: {error}. Start anew without it.") from error
        self.index = index

    def about(self) -> dict[str, Any]:
        """What the file says of itself."""
        return {"config": asdict(self.config), "index": self.index}


def cool(adams: Mapping[str, torch.optim.Optimizer], rates: Mapping[str, float], config: Any, index: int) -> None:
    """Lower all rates in a straight line to zero over the last `config.cooldown` of `config.steps`."""
    left, falling = config.steps - index, config.cooldown * config.steps
    for name, adam in adams.items():
        adam.param_groups[0]["lr"] = rates[name] * (min(1.0, left / falling) if falling else 1.0)


def memory_of(adam: torch.optim.Optimizer, part: str) -> Weights:
    """What an optimiser remembers, as tensors with names: "part.number.name"."""
    state = adam.state_dict()["state"].items()
    return {f"{part}.{number}.{name}": value for number, memory in state for name, value in memory.items()}


def remember(adam: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Give an optimiser back what `memory_of` told, without the part's name."""
    memory: dict[int, Weights] = {}
    for name, value in tensors.items():
        number, _, key = name.partition(".")
        memory.setdefault(int(number), {})[key] = value
    adam.load_state_dict({**adam.state_dict(), "state": memory})


def state_of(done: int, nets: Mapping[str, Weights], adam: torch.optim.Optimizer) -> Weights:
    """A training with one optimiser as tensors: the weights of each network, what the optimiser remembers, and the steps done."""
    tensors = {f"{part}.{name}": value for part, weights in nets.items() for name, value in weights.items()} | memory_of(adam, "adam")
    return {name: value.clone() for name, value in tensors.items()} | {"done": torch.tensor(done)}


def restored(state: Mapping[str, Tensor], nets: Mapping[str, Callable[[Weights], Any]], adam: torch.optim.Optimizer) -> int:
    """Go back to `state_of`: `nets` take their weights. Gives the steps done. Raises CheckpointError for the state of another config."""
    try:
        for part, load in nets.items():
            load(under(state, part))
        remember(adam, under(state, "adam"))
        return int(state["done"])
    except (RuntimeError, KeyError, ValueError) as error:
        raise CheckpointError(f"this training began with another config ({error}). Delete its file, or train with its config.") from error


def under(tensors: Mapping[str, Tensor], part: str) -> Weights:
    """The tensors of one part, without its name."""
    return {name[len(part) + 1 :]: value for name, value in tensors.items() if name.startswith(part + ".")}


def share(batch: int, accelerator: Any) -> slice:
    """Which pictures of a batch are this process's."""
    if accelerator is None:
        return slice(None)
    each = batch // accelerator.num_processes
    return slice(each * accelerator.process_index, each * (accelerator.process_index + 1))


def share_gradients(adam: torch.optim.Optimizer, accelerator: Any) -> None:
    """Mean of all processes' gradients: since each sees as many pictures, the gradient of the whole batch."""
    if accelerator is None or accelerator.num_processes == 1:
        return
    gradients = [weight.grad for group in adam.param_groups for weight in group["params"] if weight.grad is not None]
    whole = accelerator.reduce(torch.cat([gradient.flatten() for gradient in gradients]), "mean")
    for gradient, mean in zip(gradients, whole.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


@torch.no_grad()
def follow(average: nn.Module, latest: nn.Module, images: int, batch: int, half_life: float) -> None:
    """Move an average a little toward a network: half of it is renewed every `half_life` pictures, sooner early in a run of `images`."""
    half_life = min(half_life, RAMP * images)
    keep = 0.5 ** (batch / half_life) if half_life else 0.0
    for mine, its in zip(average.parameters(), latest.parameters(), strict=True):
        mine.lerp_(its, 1 - keep)
    for mine, its in zip(average.buffers(), latest.buffers(), strict=True):
        mine.copy_(its)


def progress(steps: Iterable[Step], total: int, words: Callable[[Step], str], quiet: bool = False) -> Iterator[Step]:
    """A bar over the steps of a training, which may have begun earlier. `words` tell of a step; `quiet` hides it all."""
    with tqdm(total=total, unit="step", desc="training", disable=quiet) as bar:
        for step in steps:
            if not bar.n:
                bar.initial = bar.n = bar.last_print_n = step.index  # known from before: no part of the pace
            bar.set_postfix_str(words(step), refresh=False)
            bar.update()
            yield step


def accelerated() -> Any:
    """The package accelerate's view of this process, if it was started as one of several, or with mixed precision."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 and os.environ.get("ACCELERATE_MIXED_PRECISION", "no") == "no":
        return None
    from accelerate import Accelerator

    return Accelerator(cpu=not torch.cuda.is_available())


def autocast(place: torch.device, bfloat16: bool, accelerator: Any) -> AbstractContextManager[Any]:
    """Mixed precision: as `accelerate launch --mixed_precision bf16` says, or the config. Raises ShapeError for fp16."""
    asked = "no" if accelerator is None else accelerator.mixed_precision
    if asked not in ("no", "bf16"):
        raise ShapeError(f"mixed precision '{asked}' is not offered here, bf16 is: say --mixed_precision bf16, or no.")
    return torch.autocast(place.type, torch.bfloat16, enabled=bfloat16 or asked == "bf16")
