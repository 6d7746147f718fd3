r"""Denoiser around a ``UNet2DModel`` of Hugging Face's diffusers (extra ``diffusers``).

The input of such a model is x_t = sqrt(abar_t) x0 + sqrt(1 - abar_t) n at whole times t. With
sigma_t = sqrt(1 / abar_t - 1), x = x_t / sqrt(abar_t) is x0 + sigma n. Between two levels the
time is interpolated linearly in ln(sigma); beyond the first and last level it is constant. The
model predicts n, x0, or v = sqrt(abar) n - sqrt(1 - abar) x0 (Salimans & Ho 2022, arXiv
2202.00512).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from typing_extensions import override

from dgray.base.networks.facts import (
    SCHEDULERS,
    NetworkFacts,
    check_embeddings,
    diffusers_config,
    diffusers_folders,
    diffusers_shape,
)
from dgray.diffusion.denoiser import Denoiser
from dgray.errors import DiffusersError

Prediction = Literal["epsilon", "sample", "v_prediction"]


@dataclass(frozen=True)
class DiffusersDenoiser(Denoiser):
    """Denoiser computed in float32 and returned in the dtype of x.

    Attributes:
        module: the ``UNet2DModel``, in evaluation mode.
        shape: (C, H, W), d = C H W.
        log_sigmas: ln(sigma_t) of t = 0, 1, ..., increasing, shape (T,), T >= 2.
        prediction: output of the module.
        num_classes: 0: unconditional.
        labels: class of each row, int64 in [0, num_classes), of a shape that broadcasts to that of
            sigma; required if the model is conditional.
    """

    module: nn.Module
    shape: tuple[int, int, int]
    log_sigmas: Tensor
    prediction: Prediction
    num_classes: int = 0
    labels: Tensor | None = None

    def with_labels(self, labels: Tensor) -> DiffusersDenoiser:
        """Return the denoiser bound to labels, which an unconditional model ignores.

        Raises:
            ValueError: a label is outside [0, num_classes).
        """
        if not self.num_classes:
            return self
        outside = (labels < 0) | (labels >= self.num_classes)
        if bool(outside.any()):
            raise ValueError(
                f"labels must lie in [0, {self.num_classes}), but one is "
                f"{labels[outside][0].item()}; choose a class of the network"
            )
        return replace(self, labels=labels)

    @property
    def facts(self) -> NetworkFacts:
        """Facts about the model, to be compared with a study."""
        low, high = self.log_sigmas[[0, -1]].exp().tolist()
        return NetworkFacts("the base", self.shape, self.num_classes, low, high)

    @override
    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        sigma = sigma.expand(x.shape[:-1])
        s = sigma.reshape(-1, 1, 1, 1).to(torch.float32)
        images = x.reshape(-1, *self.shape).to(torch.float32)
        alpha = (1 + s**2).rsqrt()
        labels = None
        if self.num_classes:
            if self.labels is None:
                raise ValueError(
                    "a conditional network of diffusers must be given labels, one for each row, "
                    "but got none"
                )
            labels = self.labels.to(x.device).expand(sigma.shape).reshape(-1)
        predicted = self.module(alpha * images, self.times(sigma.reshape(-1)), labels).sample
        output: Tensor = predicted[:, : self.shape[0]]  # a variance may follow
        match self.prediction:
            case "epsilon":
                denoised = images - s * output
            case "sample":
                denoised = output
            case "v_prediction":
                denoised = alpha**2 * images - s * alpha * output
        return denoised.reshape(x.shape).to(x.dtype)

    def times(self, sigma: Tensor) -> Tensor:
        """Return the time t in [0, T - 1] of each noise level, float32."""
        levels = self.log_sigmas.to(sigma.device, torch.float64)
        log_sigma = sigma.to(torch.float64).log()
        above = torch.searchsorted(levels, log_sigma).clamp(1, len(levels) - 1)
        low, high = levels[above - 1], levels[above]
        fraction = ((log_sigma - low) / (high - low)).clamp(0, 1)
        return (above - 1 + fraction).to(torch.float32)

    def sigma_of(self, time: float) -> float | None:
        """Return the noise level of a time, the inverse of ``times``; None: pure noise."""
        levels, last = self.log_sigmas, len(self.log_sigmas) - 1
        if time > last:
            return None
        low = min(int(time), last - 1)
        start, end = levels[low : low + 2].tolist()
        return math.exp(start + (time - low) * (end - start))


def denoiser_of(module: Any, scheduler: Any) -> DiffusersDenoiser:
    """Return the denoiser of a ``UNet2DModel`` in memory, with the noise levels of a scheduler.

    Args:
        module: the network, which is neither copied nor changed.
        scheduler: scheduler with ``alphas_cumprod``, such as DDPM's or DDIM's.

    Raises:
        DiffusersError: they are of other kinds.
    """
    alphas = getattr(scheduler, "alphas_cumprod", None)
    prediction = scheduler.config.get("prediction_type", "epsilon")
    if alphas is None or prediction not in get_args(Prediction):
        raise DiffusersError(
            "the scheduler must have alphas_cumprod and predict one of "
            f"{', '.join(get_args(Prediction))}, but {type(scheduler).__name__} predicts "
            f"{prediction!r}; use DDPMScheduler or DDIMScheduler"
        )
    config = dict(module.config)
    check_embeddings(config, type(module).__name__)
    return DiffusersDenoiser(
        module,
        diffusers_shape(config),
        _log_sigmas(alphas.to(torch.float64)),
        prediction,
        config.get("num_class_embeds") or 0,
    )


def load_diffusers(folder: Path, device: torch.device | str = "cpu") -> DiffusersDenoiser:
    """Load a model from a local folder and freeze it; nothing is downloaded.

    Args:
        folder: folder of a pipeline (with unet/ and scheduler/), or one that holds config.json and
            scheduler_config.json; weights must be safetensors.
        device: device of the model.

    Raises:
        ImportError: diffusers is not installed.
        DiffusersError: no such folder, or a model of another kind.
    """
    model, scheduler = diffusers_folders(folder)
    diffusers = _import_diffusers()
    config = diffusers_config(model / "config.json", "UNet2DModel")
    schedule = diffusers_config(scheduler / "scheduler_config.json", *SCHEDULERS)
    prediction = schedule.get("prediction_type", "epsilon")
    if prediction not in get_args(Prediction):
        names = ", ".join(get_args(Prediction))
        raise DiffusersError(f"prediction_type must be one of {names}, not {prediction!r}")
    try:
        module, loaded = diffusers.UNet2DModel.from_pretrained(
            model,
            local_files_only=True,
            use_safetensors=True,
            low_cpu_mem_usage=False,
            output_loading_info=True,
        )
    except OSError as error:
        raise DiffusersError(
            f"{model} holds no weights as safetensors: {error}; if it has a .bin file that you "
            f"trust, convert it with: from diffusers import UNet2DModel; m = "
            f"UNet2DModel.from_pretrained({str(model)!r}); m.save_pretrained({str(model)!r})"
        ) from error
    except (ValueError, RuntimeError, TypeError) as error:  # of weights of another architecture
        raise DiffusersError(f"{model}: the weights do not fit config.json: {error}") from error
    # diffusers would initialise missing weights at random.
    wrong = [name for keys in ("missing_keys", "unexpected_keys") for name in loaded[keys]]
    if wrong or not all(bool(weight.isfinite().all()) for weight in module.parameters()):
        differ = f"{len(wrong)} differ: {', '.join(wrong[:3])}" if wrong else "some are not finite"
        raise DiffusersError(
            f"{model}: weights must be those that config.json describes, all finite, but {differ}"
        )
    attention = diffusers.models.attention_processor
    for layer in module.modules():
        if isinstance(layer, attention.Attention):  # the default has no second derivative
            layer.set_processor(attention.AttnProcessor())
    # The method of diffusers itself logs a warning on any change of type.
    module = nn.Module.to(module, device, torch.float32).eval().requires_grad_(False)
    alphas: Tensor = diffusers.DDPMScheduler.from_config(schedule).alphas_cumprod.to(torch.float64)
    return DiffusersDenoiser(
        module,
        diffusers_shape(config),
        _log_sigmas(alphas),
        prediction,
        config.get("num_class_embeds") or 0,
    )


def _import_diffusers() -> Any:
    try:
        import diffusers
    except ImportError as error:
        raise ImportError(
            "a model of diffusers needs a package that is not installed; pip install "
            "'dgray[diffusers]'"
        ) from error
    return diffusers


def _log_sigmas(alphas: Tensor) -> Tensor:
    """Return ln(sigma) of the levels with a finite sigma; a schedule may end in pure noise."""
    alphas = alphas[alphas > 0]
    return 0.5 * (1 / alphas - 1).log()
