"""Which weight function a setting of the study file means."""

from __future__ import annotations

from collections.abc import Mapping

from dgray.config.study import Interval
from dgray.discriminator.guidance import ConstantWeight, IntervalWeight, ScaledWeight, Weight
from dgray.plan.plan import Setting


def acting_weight(setting: Setting, calibrated: Mapping[Interval, Weight]) -> Weight:
    """The weight that acts on average over a step: what likelihoods and path KLs are computed at.

    Heun averages the slopes of its two stages, so a weight w on the first stage alone acts as
    w / 2 (Kim et al. 2023 publish w = 2 with it). A calibrated weight is the acting one.
    """
    if setting.guidance_weight is None:
        weight = calibrated[setting.interval]
    else:
        share = 0.5 if setting.guided_stage == "predictor" else 1.0
        weight = ConstantWeight(share * setting.guidance_weight)
    return weight if setting.interval is None else IntervalWeight(weight, *setting.interval)


def stage_weight(setting: Setting, calibrated: Mapping[Interval, Weight]) -> Weight:
    """The weight on each guided stage of the sampler."""
    acting = acting_weight(setting, calibrated)
    return ScaledWeight(acting, 2.0) if setting.guided_stage == "predictor" else acting
