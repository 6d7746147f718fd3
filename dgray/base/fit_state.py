"""State of the training of a base between two steps, and its safetensors form.

Generators are not part of it: they are named by (seed, step), see ``dgray.base.fit``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

import safetensors.torch
import torch
from torch import Tensor

from dgray.adam import STATE, Adam
from dgray.base.fit_network import Network
from dgray.files import safetensors_metadata

METADATA = "dgray"  # a single key, since safetensors does not fix the order of several
EMA_RAMP = 0.05  # largest half-life as a share of the steps so far, EDM's default


@dataclass
class BaseState:
    """Network, optimiser and weight average of a base in training.

    Attributes:
        network: its parameters change in place.
        optimizer: Adam over them.
        average: averaged parameters by name.
        step: number of finished steps.
    """

    network: Network
    optimizer: Adam
    average: dict[str, Tensor]
    step: int = 0

    @staticmethod
    def start(network: Network) -> BaseState:
        """Return the state before the first step."""
        average = {name: p.detach().clone() for name, p in network.named_parameters()}
        return BaseState(network, Adam(network.parameters()), average)

    def advance(self, loss: Tensor, learning_rate: float, ema_decay: float) -> None:
        """Make one step of the optimiser and of the weight average."""
        self.optimizer.minimize(loss, learning_rate)
        self.step += 1
        decay = ramped_decay(ema_decay, self.step)
        tensors = [p.detach() for p in self.network.parameters()]
        torch._foreach_lerp_(list(self.average.values()), tensors, 1 - decay)

    def averaged(self) -> dict[str, Tensor]:
        """Return the state dict of the network with averaged parameters."""
        return {**self.network.state_dict(), **self.average}

    def to_bytes(self, definition: str) -> bytes:
        """Return the state as safetensors, with the definition of the training."""
        tensors: dict[str, Tensor] = {}
        for i, (name, parameter) in enumerate(self.network.named_parameters()):
            tensors[f"weight.{name}"] = parameter.detach()
            tensors[f"average.{name}"] = self.average[name]
            for key in STATE:
                tensors[f"{key}.{name}"] = self.optimizer.state[i][key]
        metadata = json.dumps({"definition": definition, "step": self.step})
        return to_safetensors(tensors, metadata)

    def load_bytes(self, content: bytes, definition: str) -> None:
        """Restore the state that ``to_bytes`` of the same training returned.

        Raises:
            ValueError: the definition of that training was another one.
        """
        metadata = json.loads(read_metadata(content))
        if metadata.get("definition") != definition:
            raise ValueError(
                "a base must be resumed with the data, seed, network and schedule of its first "
                f"part, {metadata.get('definition')}, but now they are {definition}; undo the "
                "change, or use another run folder to train from the beginning"
            )
        self.step = metadata["step"]
        tensors = safetensors.torch.load(content)
        for i, (name, parameter) in enumerate(self.network.named_parameters()):
            with torch.no_grad():
                parameter.copy_(tensors[f"weight.{name}"])
            self.average[name].copy_(tensors[f"average.{name}"])
            self.optimizer.state[i] = {
                key: tensors[f"{key}.{name}"].to(parameter.device) for key in STATE
            }


def ramped_decay(decay: float, step: int) -> float:
    """Return the decay of the weight average at a step, counted from 1; 0: no averaging.

    Its half-life is that of ``decay``, but at most 5 % of the steps so far, as in the training of
    Karras et al. 2022 (arXiv 2206.00364), so that initial weights are forgotten early.
    """
    return min(decay, math.exp(-math.log(2) / (EMA_RAMP * step)))


def to_safetensors(tensors: Mapping[str, Tensor], metadata: str) -> bytes:
    """Return tensors and a text as safetensors; equal content gives equal bytes."""
    on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    content: bytes = safetensors.torch.save(on_cpu, metadata={METADATA: metadata})
    return content


def read_metadata(content: bytes) -> str:
    """Return the text stored by ``to_safetensors``.

    Raises:
        ValueError: the bytes have none, so dgray did not write them.
    """
    try:
        return safetensors_metadata(content)[METADATA]
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"the weights of a trained base must be safetensors with metadata '{METADATA}', but "
            "these have none; remove the file, and the base is trained again"
        ) from error
