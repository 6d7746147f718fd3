"""The objectives, corrections, samplers, data, bases and discriminators of dgray."""

from __future__ import annotations

from dgray.catalogue.registry import Registry
from dgray.catalogue.spec import (
    BaseSpec,
    CorrectionSpec,
    DataSpec,
    DiscriminatorSpec,
    ObjectiveSpec,
    SamplerSpec,
)

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

DATA = Registry[DataSpec](
    "data",
    DataSpec(
        name="mixture",
        title="Gaussian mixture",
        factory="dgray.data.mixtures:build_mixture",
        kinds=("points",),
        has_density=True,
        settings="dgray.config.data:MixtureData",
    ),
    DataSpec(
        name="digits",
        title="handwritten digits",
        factory="dgray.data.published:digits",
        survey="dgray.data.published_surveys:survey_digits",
        kinds=("images",),
        settings="dgray.config.data:DigitsData",
    ),
    DataSpec(
        name="glyphs",
        title="glyphs",
        factory="dgray.data.glyphs:glyphs",
        kinds=("images",),
        settings="dgray.config.data:GlyphsData",
    ),
    DataSpec(
        name="cifar10",
        title="CIFAR-10",
        factory="dgray.data.published:cifar10",
        survey="dgray.data.published_surveys:survey_cifar10",
        kinds=("images",),
        settings="dgray.config.data:Cifar10Data",
    ),
    DataSpec(
        name="folder",
        title="images of a folder",
        factory="dgray.data.image_files:read_folder",
        survey="dgray.data.surveys:survey_folder",
        kinds=("images",),
        settings="dgray.config.data:FolderData",
    ),
    DataSpec(
        name="zip",
        title="images of a zip file",
        factory="dgray.data.image_files:read_zip",
        survey="dgray.data.surveys:survey_zip",
        kinds=("images",),
        settings="dgray.config.data:ZipData",
    ),
    DataSpec(
        name="npz",
        title="images of an npz file",
        factory="dgray.data.npz:read_npz",
        survey="dgray.data.surveys:survey_npz",
        kinds=("images",),
        settings="dgray.config.data:NpzData",
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
    ),
)

DISCRIMINATORS = Registry[DiscriminatorSpec](
    "discriminators",
    DiscriminatorSpec(
        name="mlp",
        title="multilayer perceptron",
        factory="dgray.problem.discriminator:build_mlp",
        is_ensemble=True,
        settings="dgray.config.training:MlpDiscriminator",
    ),
    DiscriminatorSpec(
        name="conv",
        title="convolutional network",
        factory="dgray.problem.discriminator:build_conv",
        is_ensemble=True,
        kinds=("images",),
        settings="dgray.config.training:ConvDiscriminator",
    ),
)
