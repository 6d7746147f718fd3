"""The objectives, corrections, samplers, bases and discriminators of dgray."""

from __future__ import annotations

import math

from dgray.catalogue.registry import Registry
from dgray.catalogue.spec import (
    BaseSpec,
    CorrectionSpec,
    DiscriminatorSpec,
    NetworkName,
    NetworkSpec,
    ObjectiveSpec,
    SamplerSpec,
)
from dgray.errors import PartError

OBJECTIVES = Registry[ObjectiveSpec](
    "objectives",
    ObjectiveSpec(
        name="cross_entropy",
        title="cross-entropy",
        subject="Cross-entropy",
        factory="dgray.discriminator.objective:CrossEntropy",
        colour="#D55E00",
        options=("gradient_penalty",),
    ),
    ObjectiveSpec(
        name="kl",
        title="KL objective",
        subject="The KL objective",
        factory="dgray.discriminator.objective:Kl",
        colour="#0072B2",
        needs_generated=False,
        needs_gradient=True,
    ),
    ObjectiveSpec(
        name="mixed",
        title="mixed objective",
        subject="The mixed objective",
        factory="dgray.discriminator.objective:Mixed",
        colour="#AA4499",
        needs_gradient=True,
        options=("gamma",),
    ),
    ObjectiveSpec(
        name="time_score",
        title="time score",
        subject="The time score",
        factory="dgray.discriminator.time_score:TimeScore",
        kinds=("points",),
        colour="#117733",
        marker="v",
        needs_generated=False,
        needs_span=True,
    ),
    ObjectiveSpec(
        name="oracle",
        title="oracle",
        subject="The oracle (exact log-ratio)",
        factory="dgray.discriminator.discriminator:exact_log_ratio",
        kinds=("points",),
        colour="#009E73",
        is_trained=False,
        needs_generated=False,
        needs_density=True,
    ),
    ObjectiveSpec(
        name="oscillating",
        title="oscillating control",
        subject="The oscillating control",
        factory="dgray.discriminator.discriminator:Oscillating",
        kinds=("points",),
        colour="#B8860B",
        is_trained=False,
        needs_generated=False,
        needs_density=True,
        options=("oscillation",),
    ),
)

CORRECTIONS = Registry[CorrectionSpec](
    "corrections",
    CorrectionSpec(
        name="guidance",
        title="guidance",
        factory="dgray.correction.guidance:Guidance",
        needs_discriminator=True,
    ),
    CorrectionSpec(
        name="residual",
        title="residual score",
        subject="The residual score",
        factory="dgray.correction.residual:build_residual",
        colour="#CC79A7",
        marker="s",
        strength="weight",
        needs_network=True,
    ),
    CorrectionSpec(
        name="fine_tune",
        title="fine-tuning",
        subject="Fine-tuning",
        factory="dgray.correction.fine_tune:build_fine_tune",
        colour="#332288",
        marker="D",
        strength="weight",
        needs_parametric_base=True,
    ),
    CorrectionSpec(
        name="autoguidance",
        title="autoguidance",
        factory="dgray.correction.autoguidance:build_autoguidance",
        colour="#882255",
        marker="P",
        needs_network=True,
    ),
    CorrectionSpec(
        name="sims",
        title="SIMS",
        subject="SIMS",
        factory="dgray.correction.sims:build_sims",
        colour="#44AA99",
        marker="X",
        strength="weight",
        needs_network=True,
        needs_generated=True,
    ),
    CorrectionSpec(
        name="neon",
        title="Neon",
        subject="Neon",
        factory="dgray.correction.neon:build_neon",
        colour="#999933",
        marker="h",
        strength="weight",
        needs_generated=True,
        needs_parametric_base=True,
    ),
    CorrectionSpec(
        name="ddo",
        title="DDO",
        subject="DDO",
        factory="dgray.correction.ddo:build_ddo",
        colour="#661100",
        marker="d",
        strength="weight",
        needs_generated=True,
        needs_parametric_base=True,
        options=("alpha", "beta"),
    ),
    CorrectionSpec(
        name="rejection",
        title="rejection",
        factory="dgray.correction.rejection:Rejection",
        marker="^",
        strength="exponent of the ratio",
        needs_discriminator=True,
        is_sampler=True,
        proposals="max_ratio",
        options=("max_ratio",),
    ),
    CorrectionSpec(
        name="metropolis",
        title="Metropolis",
        factory="dgray.correction.metropolis:Metropolis",
        marker="<",
        strength="exponent of the ratio",
        needs_discriminator=True,
        is_sampler=True,
        proposals="moves",
        options=("moves",),
    ),
)

SAMPLERS = Registry[SamplerSpec](
    "samplers",
    SamplerSpec(
        name="ode",
        title="probability-flow ODE (Heun)",
        factory="dgray.diffusion.sampler:heun",
        is_stochastic=False,
        is_two_stage=True,
        is_flow=True,
    ),
    SamplerSpec(
        name="churn",
        title="stochastic sampler of EDM",
        factory="dgray.diffusion.sampler:edm_stochastic",
        is_two_stage=True,
        options=("churn",),
    ),
    SamplerSpec(
        name="sde",
        title="reverse SDE",
        factory="dgray.diffusion.sampler:reverse_sde",
    ),
    SamplerSpec(
        name="restart",
        title="restart sampler",
        factory="dgray.diffusion.restart:restart",
        is_two_stage=True,
        options=("restart",),
        draws="dgray.diffusion.restart_counts:num_draws",
        calls="dgray.diffusion.restart_counts:num_calls",
    ),
)

BASES = Registry[BaseSpec](
    "bases",
    BaseSpec(
        name="wrong_mixture",
        title="distorted mixture",
        factory="dgray.data.mixtures:distorted_mixture",
        kinds=("points",),
        has_density=True,
        settings="dgray.config.bases:WrongMixture",
    ),
    BaseSpec(
        name="trained",
        title="network trained by dgray",
        factory="dgray.base.fit:load_base",
        is_trainable=True,
        weights="dgray.problem.make_shared:make_trained_base",
        settings="dgray.config.bases:TrainedBase",
    ),
    BaseSpec(
        name="edm",
        title="network of Karras et al. (2022)",
        factory="dgray.problem.base_model:load_edm",
        is_trainable=True,
        weights="dgray.problem.make_shared:make_edm_base",
        needs_driver_files=True,
        kinds=("images",),
        settings="dgray.config.bases:EdmBase",
    ),
    BaseSpec(
        name="diffusers",
        title="network of the library diffusers",
        factory="dgray.problem.base_model:build_diffusers",
        kinds=("images",),
        settings="dgray.config.bases:DiffusersBase",
        package="diffusers",
        extra="diffusers",
    ),
)

MLP_MAX_VALUES = 64  # of an image, 8 x 8 grey digits; a perceptron learns no larger strokes
NETWORKS = {
    spec.name: spec
    for spec in (
        NetworkSpec(name="mlp", title="multilayer perceptron"),
        NetworkSpec(name="unet", title="DDPM++ U-Net", kinds=("images",), is_convolutional=True),
    )
}


def default_network(shape: tuple[int, ...]) -> NetworkName:
    """Return the network of a trained base: ``unet`` for images of more than 64 values."""
    is_large = len(shape) == 3 and math.prod(shape) > MLP_MAX_VALUES
    return "unet" if is_large else "mlp"


DISCRIMINATORS = Registry[DiscriminatorSpec](
    "discriminators",
    DiscriminatorSpec(
        name="mlp",
        title="multilayer perceptron",
        factory="dgray.problem.discriminator:build_mlp",
        is_ensemble=True,
        default_for=("points",),
        network=NETWORKS["mlp"],
        min_weights="dgray.discriminator.mlp:min_weights",
        settings="dgray.config.training:MlpDiscriminator",
    ),
    DiscriminatorSpec(
        name="conv",
        title="convolutional network",
        factory="dgray.problem.discriminator:build_conv",
        is_ensemble=True,
        kinds=("images",),
        default_for=("images",),
        network=NETWORKS["unet"],
        min_weights="dgray.discriminator.conv_network:min_weights",
        settings="dgray.config.training:ConvDiscriminator",
    ),
)


def network_like(kind: str) -> NetworkSpec:
    """Return the network of the architecture of a discriminator, for corrections that train it.

    Raises:
        PartError: if there is none.
    """
    network = DISCRIMINATORS[kind].network if kind in DISCRIMINATORS else None
    if network is None:
        kinds = " or ".join(spec.name for spec in DISCRIMINATORS if spec.network is not None)
        raise PartError(
            f"discriminator.kind must be {kinds} for this correction, but got {kind!r}"
        )
    return network
