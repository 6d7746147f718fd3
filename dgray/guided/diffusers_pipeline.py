r"""Pipeline of diffusers with discriminator guidance (extra ``diffusers``).

At a time t of the scheduler, the input of the network is x_t = alpha x with alpha = sqrt(abar_t)
and x = x0 + sigma n, sigma = sqrt(1 / abar_t - 1). The guided denoiser D + w sigma^2 g, with
g = grad_x d(x; sigma), becomes an output of the network in its own parametrisation:

    epsilon        eps - w sigma g
    sample         x0 + w sigma^2 g
    v_prediction   v - w sigma g / alpha

The step is the scheduler's. With DDPM's (fixed_small, without clipping) it is that of
``dgray.diffusion.sampler.reverse_sde``; with DDIM's, Euler's for the probability-flow ODE.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor

from dgray.base.networks.diffusers_denoiser import denoiser_of
from dgray.base.networks.facts import diffusers_folders
from dgray.correction.linear import acting_change
from dgray.correction.weight import IntervalWeight
from dgray.errors import GuidedModelError
from dgray.guided.loading import base_path, load_exported
from dgray.guided.model import GuidedDenoiser

try:
    from diffusers import DiffusionPipeline, ImagePipelineOutput, SchedulerMixin, UNet2DModel
    from diffusers.utils.torch_utils import randn_tensor
except ImportError as error:
    raise ImportError(
        "a pipeline of diffusers needs a package that is not installed; pip install "
        "'dgray[diffusers]'"
    ) from error


class DiscriminatorGuidancePipeline(DiffusionPipeline):  # type: ignore[misc]
    """Unconditional or class-conditional generation of images, guided by a discriminator.

    Args:
        unet: ``UNet2DModel``.
        scheduler: scheduler with ``alphas_cumprod``, such as DDPM's or DDIM's.
        guidance: model whose discriminator and weight guide; None: no guidance.
    """

    model_cpu_offload_seq = "unet"

    def __init__(
        self,
        unet: UNet2DModel,
        scheduler: SchedulerMixin,
        guidance: GuidedDenoiser | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)
        self.guidance = guidance

    @classmethod
    def from_exported(
        cls, folder: str | Path, *, device: str = "cpu", trust_code: bool = False
    ) -> Self:
        """Load the model that ``dgray export`` wrote, with the base that it refers to.

        Raises:
            GuidedModelError: the base is not a model of diffusers.
        """
        path = base_path(Path(folder))
        model, schedule = diffusers_folders(path)
        unet = UNet2DModel.from_pretrained(model, local_files_only=True, use_safetensors=True)
        scheduler = _scheduler(schedule)
        pipeline = cls(unet.to(device), scheduler)
        pipeline.load_guidance(folder, device=device, trust_code=trust_code)
        return pipeline

    def load_guidance(
        self, folder: str | Path, *, device: str | None = None, trust_code: bool = False
    ) -> None:
        """Load discriminator, weight and interval that ``dgray export`` wrote.

        Args:
            folder: folder of the exported model; its base is replaced by this pipeline's network.
            device: device of the discriminator; None: that of the pipeline.
            trust_code: see ``dgray.load_exported``.
        """
        self.guidance = load_exported(
            folder,
            denoiser=denoiser_of(self.unet, self.scheduler),
            device=device or self.device,
            trust_code=trust_code,
        )

    @torch.no_grad()
    def __call__(
        self,
        batch_size: int = 1,
        generator: torch.Generator | list[torch.Generator] | None = None,
        num_inference_steps: int = 1000,
        *,
        guidance_weight: float | None = None,
        class_labels: Tensor | None = None,
        eta: float = 0.0,
        output_type: Literal["pil", "np", "pt", "latent"] = "pil",
        return_dict: bool = True,
    ) -> ImagePipelineOutput | tuple[Any]:
        """Generate images.

        Args:
            batch_size: number of images.
            generator: source of all noise, or one for each image.
            num_inference_steps: steps of the scheduler.
            guidance_weight: constant weight, in the interval of ``guidance``, in place of its own;
                0: the plain pipeline.
            class_labels: classes of a conditional network, int64 (batch_size,).
            eta: noise of DDIM's scheduler, in [0, 1].
            output_type: images of PIL, numpy (n, H, W, C) or torch (n, C, H, W) with values in
                [0, 1], or ``latent``: the scheduler's last sample, in about [-1, 1].
            return_dict: return an ``ImagePipelineOutput``, or a tuple.
        """
        guided = self._guided(guidance_weight)
        denoiser = denoiser_of(self.unet, self.scheduler)
        noise = randn_tensor(
            (batch_size, *denoiser.shape),
            generator=generator,
            device=self._execution_device,
            dtype=self.unet.dtype,
        )
        self.scheduler.set_timesteps(num_inference_steps)
        image = noise * self.scheduler.init_noise_sigma
        options = self._step_options(generator, eta)
        labels = None if class_labels is None else class_labels.to(image.device)
        for t in self.progress_bar(self.scheduler.timesteps):
            scaled = self.scheduler.scale_model_input(image, t)
            output = self.unet(scaled, t, class_labels=labels).sample
            sigma = denoiser.sigma_of(float(t))
            if guided is not None and sigma is not None:
                output = _guide(output, scaled, sigma, (guided, denoiser.prediction), labels)
            image = self.scheduler.step(output, t, image, **options).prev_sample
        images = self._output(image, output_type)
        return ImagePipelineOutput(images=images) if return_dict else (images,)

    def _guided(self, weight: float | None) -> GuidedDenoiser | None:
        """Return the guidance at a weight; None if there is none."""
        guided: GuidedDenoiser | None = self.guidance
        if weight is None or guided is None:
            if weight:
                raise GuidedModelError(
                    "guidance_weight needs a discriminator, but the pipeline has none; load one "
                    "with load_guidance(folder)"
                )
            return guided
        own = guided.weight
        interval = (own.low, own.high) if isinstance(own, IntervalWeight) else None
        return guided.with_weight(weight, interval) if weight else None

    def _step_options(self, generator: Any, eta: float) -> dict[str, Any]:
        """Return the arguments of the scheduler's step that it accepts."""
        accepted = inspect.signature(self.scheduler.step).parameters
        options = {"generator": generator, "eta": eta}
        return {name: value for name, value in options.items() if name in accepted}

    def _output(self, image: Tensor, output_type: str) -> Any:
        if output_type == "latent":
            return image
        images = (image / 2 + 0.5).clamp(0, 1)
        if output_type == "pt":
            return images
        arrays = images.cpu().permute(0, 2, 3, 1).float().numpy()
        return self.numpy_to_pil(arrays) if output_type == "pil" else arrays


def _guide(
    output: Tensor,
    scaled: Tensor,
    sigma: float,
    model: tuple[GuidedDenoiser, str],
    labels: Tensor | None,
) -> Tensor:
    """Return the output of the network, corrected; a variance may follow its first channels."""
    guided, prediction = model
    stretch = (1 + sigma**2) ** 0.5
    flat = guided.space.flat(stretch * scaled.double())
    level = guided.space.levels(sigma, len(flat))
    bound = guided.flat(labels)
    if not bool(bound.weight(torch.tensor([sigma], dtype=torch.float64))):
        return output
    pull = level[:, None] * acting_change(bound, flat, level)
    factor = {"epsilon": -1.0, "sample": sigma, "v_prediction": -stretch}[prediction]
    corrected = output.clone()
    corrected[:, : scaled.shape[1]] += (factor * pull).reshape(scaled.shape).to(output)
    return corrected


def _scheduler(folder: Path) -> Any:
    """Return the scheduler of a folder, of the class that it names."""
    import diffusers

    from dgray.base.networks.facts import SCHEDULERS, diffusers_config

    config = diffusers_config(folder / "scheduler_config.json", *SCHEDULERS)
    return getattr(diffusers, config["_class_name"]).from_config(config)
