"""What the longer trainings share: their state on disk, batches in several processes, mixed precision, a running average."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dvlatent.checkpoints import format
from dvlatent.errors import CheckpointError, ShapeError
from dvlatent.methods.train import _share as share
from dvlatent.methods.train import _share_gradients as share_gradients
from dvlatent.methods.train import _under as under

__all__ = ["Running", "autocast", "follow", "share", "share_gradients", "under"]
RAMP = 0.05  # an average never looks back further than this share of the run so far


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
        left, falling = self.config.steps - self.index, self.config.cooldown * self.config.steps
        for name, adam in self.adams.items():
            adam.param_groups[0]["lr"] = self.rates[name] * (min(1.0, left / falling) if falling else 1.0)

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
            for number, memory in adam.state_dict()["state"].items():
                tensors |= {f"{part}.{number}.{name}": value for name, value in memory.items()}
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
                memory: dict[int, dict[str, Tensor]] = {}
                for name, value in under(tensors, part).items():
                    number, _, key = name.partition(".")
                    memory.setdefault(int(number), {})[key] = value
                adam.load_state_dict({"state": memory, "param_groups": adam.state_dict()["param_groups"]})
            self.more = under(tensors, "more")
            self.dice.set_state(tensors["dice"])
            torch.set_rng_state(tensors["torch_dice"])
        except (KeyError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{path} is no whole training run: {error}. Start anew without it.") from error
        self.index = index

    def about(self) -> dict[str, Any]:
        """What the file says of itself."""
        return {"config": asdict(self.config), "index": self.index}


@torch.no_grad()
def follow(average: nn.Module, latest: nn.Module, images: int, batch: int, half_life: float) -> None:
    """Move an average a little toward a network: half of it is renewed every `half_life` pictures, sooner early in a run of `images`."""
    half_life = min(half_life, RAMP * images)
    keep = 0.5 ** (batch / half_life) if half_life else 0.0
    for mine, its in zip(average.parameters(), latest.parameters(), strict=True):
        mine.lerp_(its, 1 - keep)


def autocast(place: torch.device, bfloat16: bool, accelerator: Any) -> AbstractContextManager[Any]:
    """Mixed precision: as `accelerate launch --mixed_precision bf16` says, or the config. Raises ShapeError for fp16."""
    asked = "no" if accelerator is None else accelerator.mixed_precision
    if asked not in ("no", "bf16"):
        raise ShapeError(f"mixed precision '{asked}' is not offered here, bf16 is: say --mixed_precision bf16, or no.")
    return torch.autocast(place.type, torch.bfloat16, enabled=bfloat16 or asked == "bf16")
