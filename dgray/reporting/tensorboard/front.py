"""The front page of TensorBoard: few curves that answer the study's question, and its texts.

At most a dozen scalars a trial: the losses, each KL divergence at the weight nearest to 1, its
change at a few noise levels, and the best setting so far. The base and controls, which have no
epochs, are lines over the epochs of the others. The layout of the tab CUSTOM SCALARS shows them
side by side.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import metadata as custom_scalar
from tensorboard.plugins.text import metadata as text_metadata
from tensorboard.util.tensor_util import make_tensor_proto

from dgray.reporting.presentation import (
    BASE,
    PATH_KL,
    depends_on_sampler,
    distances,
    divergences,
    sampler_preference,
)
from dgray.reporting.tensorboard.rows import Rows, is_missing
from dgray.reporting.tensorboard.scalars import Scalar, middle_levels

MAX_TAGS = 12  # of a trial
_MAX_METRICS, _MAX_LEVELS = 3, 4
_GROUP = "at w="
_LOSSES = ("loss/train", "loss/held_out")
_BINS = f"{PATH_KL}_change_bins"
_BY_NOISE = f"by noise level, {PATH_KL}_change"
_UNRESTRICTED_SETTING = (None, None, "both")  # interval and stages of plain guidance


@dataclass(frozen=True)
class FrontPage:
    """Choice of the curves of a study.

    Attributes:
        weight: constant guidance weight of the curves; None: the calibrated one.
        span: first and last epoch of trained trials; None if there are none.
        num_search_tags: number of tags that a search adds to each trial.
    """

    weight: float | None = 1.0
    span: tuple[int, int] | None = None
    num_search_tags: int = 0

    @property
    def group(self) -> str:
        """Group of the curves; sorts before the others, so that it is the first on the page."""
        weight = "calibrated" if self.weight is None else f"{self.weight:g}"
        return f"{_GROUP}{weight}, base unguided"

    def scalars(self, rows: Rows, num_best: int) -> Iterator[Scalar]:
        """Yield the metrics of a checkpoint at the main weight, and changes by noise level.

        Args:
            rows: rows of one checkpoint of one trial.
            num_best: number of tags of the best setting.
        """
        is_base = rows["objective"][0] == BASE.name
        epoch = rows["epoch"][0]
        plain = _plain(rows)
        shown = plain if is_base else at_weight(plain, self.weight)
        epochs = [epoch] if epoch > 0 or self.span is None else sorted(set(self.span))
        names = _metrics(shown)
        for name in names:
            first = _first_sampler(shown.where(not is_missing(v) for v in shown[name]))
            sampler = f", {first['sampler'][0]}" if depends_on_sampler(name) else ""
            value = first.mean(name)
            assert value is not None  # the metric has values
            tag = f"{self.group}/{name}{sampler}"
            yield from (Scalar(tag=tag, epoch=e, value=value) for e in epochs)
        if not is_base:
            free = MAX_TAGS - self.num_search_tags - num_best - len(_LOSSES) - len(names)
            yield from _by_noise(shown, epoch, min(free, _MAX_LEVELS))


NO_EPOCHS = FrontPage()


def is_front_loss(tag: str) -> bool:
    """Return whether a loss is on the front page."""
    return tag in _LOSSES


def layout(tags: Sequence[str]) -> Summary:
    """Return the layout of CUSTOM SCALARS, given the tags of a trained trial."""
    groups: dict[str, list[layout_pb2.Chart]] = {}
    for tag in tags:
        name, _, setting = tag.partition("/")
        if name == _BY_NOISE:
            groups.setdefault("Change of the path KL by noise level, in nats", []).append(
                _chart(setting, f"^{_escaped(tag)}$")
            )
        elif name.startswith(_GROUP):
            title = f"Guided models {name}"
            groups.setdefault(title, []).append(_chart(setting, f"^{_escaped(tag)}$"))
    best = [tag for tag in tags if tag.startswith("best/")]
    groups["Loss of the discriminator"] = [
        _chart("training", "^loss/train$"),
        _chart("held-out", "^loss/held_out$"),
    ]
    groups["Best setting so far, selected on validation"] = [
        _chart(tag.removeprefix("best/"), f"^{_escaped(tag)}$") for tag in best
    ]
    content = layout_pb2.Layout(
        category=[
            layout_pb2.Category(title=title, chart=charts, closed=index > 1)
            for index, (title, charts) in enumerate(groups.items())
            if charts
        ]
    )
    value = Summary.Value(
        tag=custom_scalar.CONFIG_SUMMARY_TAG,
        metadata=custom_scalar.create_summary_metadata(),
        tensor=make_tensor_proto(content.SerializeToString()),
    )
    return Summary(value=[value])


def texts(named: Mapping[str, str]) -> Summary:
    """Return texts for the tab TEXT, in Markdown, by their tags."""
    metadata = text_metadata.create_summary_metadata(display_name="", description="")
    return Summary(
        value=[
            Summary.Value(
                tag=tag, metadata=metadata, tensor=make_tensor_proto(text.encode("utf-8"))
            )
            for tag, text in named.items()
        ]
    )


def _chart(title: str, pattern: str) -> layout_pb2.Chart:
    return layout_pb2.Chart(title=title, multiline=layout_pb2.MultilineChartContent(tag=[pattern]))


def _escaped(text: str) -> str:
    return "".join(f"\\{c}" if c in r".^$*+?()[]{}|\\" else c for c in text)


def at_weight(rows: Rows, weight: float | None) -> Rows:
    """Select rows at a constant weight, or at the calibrated one for None."""
    if weight is None:
        return rows.where(map(bool, rows["is_calibrated"]))
    return rows.where(value == weight for value in rows["guidance_weight"])


def _plain(rows: Rows) -> Rows:
    """Rows guided at all noise levels and in both stages, or of the first setting."""
    settings = [
        tuple(None if is_missing(value) else value for value in setting)
        for setting in zip(
            *(rows[name] for name in ("interval_low", "interval_high", "guided_stage")),
            strict=True,
        )
    ]
    plain = _UNRESTRICTED_SETTING if _UNRESTRICTED_SETTING in settings else settings[0]
    return rows.where(setting == plain for setting in settings)


def _metrics(rows: Rows) -> list[str]:
    """The divergences, or else their changes, and the distances that have values."""
    levels = [name for name in divergences() if rows.present(name)]
    changes = [f"{name}_change" for name in divergences()]
    names = [*(levels or changes), *distances()]
    return [name for name in names if rows.present(name)][:_MAX_METRICS]


def _first_sampler(rows: Rows) -> Rows:
    """The rows of the preferred sampler with most steps."""
    pairs = list(zip(rows["sampler"], rows["num_steps"], strict=True))
    first = min(set(pairs), key=lambda pair: (sampler_preference(pair[0]), -pair[1]))
    return rows.where(pair == first for pair in pairs)


def _by_noise(rows: Rows, epoch: int, count: int) -> Iterator[Scalar]:
    """The change of the path KL in ``count`` bins from the lowest noise level to the highest."""
    mean, middle = rows.mean_of_lists(_BINS), middle_levels(rows)
    if mean is None or middle is None or count < 1:
        return
    bins = np.linspace(0, len(middle) - 1, 2 * count + 1).round().astype(int)[1::2]
    for index in dict.fromkeys(bins.tolist()):
        tag = f"{_BY_NOISE}/sigma={middle[index]:.2g}"
        yield Scalar(tag=tag, epoch=epoch, value=float(mean[index]))
