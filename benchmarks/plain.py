"""Discriminators as a script in plain PyTorch trains and evaluates them, one at a time.

The scripts take the samples, the names of generators and the order of draws of dgray, so that both
sides compute the same numbers up to rounding.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from dgray.diffusion.mixture import GaussianMixture
from dgray.diffusion.noise import named_generator
from dgray.discriminator.fit import Task
from dgray.discriminator.mlp import Mlp


class Perceptron(nn.Module):
    """Logit of x (n, d) and sigma (n,)."""

    def __init__(self, member: Mlp) -> None:
        """Copy the weights of a network of dgray."""
        super().__init__()
        self.sigma_data = member.sigma_data
        self.layers = nn.ModuleList()
        for weight, bias in zip(member.weights, member.biases, strict=True):
            layer = nn.Linear(*weight.shape)
            layer.weight.data, layer.bias.data = weight.T.clone(), bias[0].clone()
            self.layers.append(layer)

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return the logit, shape (n,)."""
        sigma = sigma[:, None].float()
        scaled = x.float() / torch.sqrt(sigma**2 + self.sigma_data**2)
        log = sigma.log()
        h = torch.cat([scaled, log / 4, log.sin(), log.cos()], 1)
        for layer in self.layers[:-1]:
            h = torch.nn.functional.silu(layer(h))
        return self.layers[-1](h)[:, 0]

    def gradient(self, x: Tensor, sigma: Tensor, *, differentiable: bool = False) -> Tensor:
        """Return the gradient of the logit in x by automatic differentiation."""
        x = x.detach().float().requires_grad_()
        with torch.enable_grad():
            total = self(x, sigma).sum()
            return torch.autograd.grad(total, x, create_graph=differentiable)[0]

    def gradient_and_laplacian(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradient and its divergence, one backward pass per coordinate."""
        x = x.detach().float().requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(self(x, sigma).sum(), x, create_graph=True)
            rows = [
                torch.autograd.grad(gradient[:, i].sum(), x, retain_graph=True)[0][:, i]
                for i in range(x.shape[1])
            ]
        return gradient.detach(), torch.stack(rows).sum(0)


def mixture_score(mixture: GaussianMixture, x: Tensor, sigma: Tensor) -> Tensor:
    """Return the score of a noised mixture, x (n, d), sigma (n,)."""
    variance = mixture.stds**2 + sigma[:, None, None] ** 2
    offset = mixture.means - x[:, None, :]
    log_joint = mixture.weights.log() - 0.5 * (offset**2 / variance + variance.log()).sum(-1)
    return (torch.softmax(log_joint, -1)[..., None] * offset / variance).sum(1)


def mixture_score_and_divergence(
    mixture: GaussianMixture, x: Tensor, sigma: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the score and its divergence by automatic differentiation."""
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        score = mixture_score(mixture, x, sigma)
        rows = [
            torch.autograd.grad(score[:, i].sum(), x, retain_graph=True)[0][:, i]
            for i in range(x.shape[1])
        ]
    return score.detach(), torch.stack(rows).sum(0)


def train(
    task: Task,
    network: Perceptron,
    replicate: int,
    base: GaussianMixture,
    epochs: range,
    optimizer: torch.optim.Optimizer,
) -> Tensor:
    """Train one network on all its samples in each epoch; return the last loss.

    Args:
        task: of this replicate alone.
        network: changed in place.
        replicate: names the generators.
        base: in float64.
        epochs: numbers of the epochs, from 1.
        optimizer: AdamW over the network.
    """
    loss = torch.zeros(())
    for epoch in epochs:
        generator = named_generator(task.seed, "fit", replicate, epoch)
        count = task.real.shape[1]
        clean = task.real[0][torch.randperm(count, generator=generator)]
        sigma = task.draw_sigma(generator, count)
        noise = torch.randn(clean.shape, generator=generator)
        x = clean + sigma[:, None] * noise
        if task.generated is None:
            exact = clean.double() + sigma[:, None].double() * noise.double()
            score = mixture_score(base, exact, sigma.double())
            residual = (noise.double() + sigma[:, None] * score).float()
            guided = residual + sigma[:, None] * network.gradient(x, sigma, differentiable=True)
            loss = (guided**2).sum(1).mean()
        else:
            chosen = torch.randint(task.generated.shape[1], (count,), generator=generator)
            fake = task.generated[0][chosen]
            fake = fake + sigma[:, None] * torch.randn(fake.shape, generator=generator)
            loss = -(logsigmoid(network(x, sigma)) + logsigmoid(-network(fake, sigma))).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.detach()


def log_prior(x: Tensor, std: float) -> Tensor:
    """Return the log-density of N(0, std^2 I), shape (n,)."""
    return -0.5 * (x**2).sum(1) / std**2 - x.shape[1] * (
        math.log(std) + 0.5 * math.log(2 * math.pi)
    )
