"""Discriminators built from a configuration and from stored tensors."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from dgray.config.reading.load import load_study
from dgray.plan.plan import make_plan
from dgray.problem.artifacts import Shared
from dgray.problem.build import build_problem
from dgray.problem.correction import build_member
from dgray.problem.discriminator import build_discriminator

STUDY = f"""
name: features
data: {{kind: mixture, name: ring8, num_real: 20}}
base: {{kind: wrong_mixture}}
discriminator: {{factory: "{__name__}:RandomFeatures"}}
fit: {{objective: kl, checkpoints: [1]}}
"""


class RandomFeatures(nn.Module):
    """Logit that is linear in random features, which are not trained."""

    def __init__(self, shape: tuple[int, ...], sigma_data: float, num_classes: int) -> None:
        super().__init__()
        del sigma_data, num_classes
        self.register_buffer("directions", torch.randn(shape[0], 16))
        self.out = nn.Linear(16, 1)

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self.out(torch.cos(x @ self.directions))[:, 0] * sigma.log()


def test_the_discriminator_of_a_replicate_has_its_own_untrained_draws(
    tmp_path: Path,
) -> None:
    (tmp_path / "study.yaml").write_text(STUDY)
    plan = make_plan(load_study(tmp_path / "study.yaml"))
    config = next(trial for trial in plan.trials if trial.is_trained).config
    problem = build_problem(config, Shared({}), torch.device("cpu"))
    ensemble = build_discriminator(config, problem, [0, 1])
    x, sigma = torch.randn(5, 2), torch.full((5,), 0.7)
    logits = [ensemble.member(replicate).logit(x, sigma) for replicate in (0, 1)]
    for replicate in (0, 1):
        stored = [tensor[replicate].detach() for tensor in ensemble.tensors]
        member = build_member(config, problem, "kl", stored, replicate)
        torch.testing.assert_close(member.discriminator.logit(x, sigma), logits[replicate])
    same_weights = [tensor[1].detach() for tensor in ensemble.tensors]
    other = build_member(config, problem, "kl", same_weights, 0)
    assert not torch.allclose(other.discriminator.logit(x, sigma), logits[1])
