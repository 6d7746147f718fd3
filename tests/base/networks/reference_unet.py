"""EDM's U-Nets once more, in NumPy and float64, from nothing but a state dict and its names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]


def silu(x: Array) -> Array:
    return x / (1 + np.exp(-x))


def convolve(x: Array, weight: Array, padding: int) -> Array:
    """Cross-correlation of (N, C, H, W) with (O, C, k, k), zeros around."""
    k = weight.shape[-1]
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (k, k), axis=(2, 3))
    return np.einsum("nchwij,ocij->nohw", windows, weight)


def low_pass(x: Array, taps: Array, padding: int) -> Array:
    """Each channel convolved with the outer product of ``taps``."""
    kernel = np.outer(taps, taps)[None, None]
    n, c, *_ = x.shape
    out = convolve(x.reshape(n * c, 1, *x.shape[2:]), kernel, padding)
    return out.reshape(n, c, *out.shape[2:])


def halve(x: Array, taps: Array, padding: int | None = None) -> Array:
    """Low pass, then every second pixel; taps of sum 1."""
    padding = (len(taps) - 1) // 2 if padding is None else padding
    return low_pass(x, taps, padding)[:, :, ::2, ::2]


def double(x: Array, taps: Array) -> Array:
    """Zeros between the pixels, then a low pass of sum 2 per direction."""
    n, c, h, w = x.shape
    spread = np.zeros((n, c, 2 * h - 1, 2 * w - 1))
    spread[:, :, ::2, ::2] = x
    margin = len(taps) - 1 - (len(taps) - 1) // 2
    return low_pass(spread, 2 * taps[::-1], margin)


def normalise(x: Array, weight: Array, bias: Array, eps: float) -> Array:
    n, c, *_ = x.shape
    grouped = x.reshape(n, min(32, c // 4), -1)
    mean, variance = grouped.mean(-1, keepdims=True), grouped.var(-1, keepdims=True)
    out = ((grouped - mean) / np.sqrt(variance + eps)).reshape(x.shape)
    return out * weight[:, None, None] + bias[:, None, None]


@dataclass(frozen=True)
class Reference:
    """F(x, noise label, one-hot class, augment label) of a SongUNet or DhariwalUNet."""

    state: dict[str, Array]
    is_song: bool
    taps: tuple[float, ...] = (1, 1)

    @property
    def eps(self) -> float:
        return 1e-6 if self.is_song else 1e-5

    @property
    def unit_taps(self) -> Array:
        return np.array(self.taps, float) / sum(self.taps)

    def linear(self, name: str, x: Array) -> Array:
        bias = self.state.get(f"{name}.bias", np.zeros(1))
        return x @ self.state[f"{name}.weight"].T + bias

    def conv(self, name: str, x: Array, resample: str = "") -> Array:
        if resample:
            taps = self.unit_taps
            x = halve(x, taps) if resample == "down" else double(x, taps)
        if f"{name}.weight" not in self.state:
            return x
        weight = self.state[f"{name}.weight"]
        out = convolve(x, weight, weight.shape[-1] // 2)
        return out + self.state[f"{name}.bias"][:, None, None]

    def norm(self, name: str, x: Array, eps: float | None = None) -> Array:
        weight, bias = self.state[f"{name}.weight"], self.state[f"{name}.bias"]
        return normalise(x, weight, bias, self.eps if eps is None else eps)

    def attend(self, name: str, x: Array) -> Array:
        n, c, h, w = x.shape
        heads = 1 if self.is_song else c // 64
        size = c // heads
        qkv = self.conv(f"{name}.qkv", self.norm(f"{name}.norm2", x))
        out = np.zeros_like(x)
        for i in range(n):
            for head in range(heads):
                mine = qkv[i, 3 * size * head : 3 * size * (head + 1)].reshape(3 * size, -1)
                q, k, v = mine[0::3], mine[1::3], mine[2::3]
                logits = q.T @ k / np.sqrt(size)
                weights = np.exp(logits - logits.max(1, keepdims=True))
                weights /= weights.sum(1, keepdims=True)
                out[i, size * head : size * (head + 1)] = (v @ weights.T).reshape(size, h, w)
        return self.conv(f"{name}.proj", out)

    def block(self, name: str, x: Array, emb: Array) -> Array:
        resample = next((way for way in ("up", "down") if name.endswith(f"_{way}")), "")
        scale = np.sqrt(0.5) if self.is_song else 1.0
        h = self.conv(f"{name}.conv0", silu(self.norm(f"{name}.norm0", x)), resample)
        modulation = self.linear(f"{name}.affine", emb)[:, :, None, None]
        if self.is_song:
            h = silu(self.norm(f"{name}.norm1", h + modulation))
        else:
            gain, shift = np.split(modulation, 2, axis=1)
            h = silu(self.norm(f"{name}.norm1", h) * (1 + gain) + shift)
        h = self.conv(f"{name}.conv1", h)
        x = (self.conv(f"{name}.skip", x, resample) + h) * scale
        if f"{name}.qkv.weight" in self.state:
            x = (x + self.attend(name, x)) * scale
        return x

    def embedding(self, noise: Array, one_hot: Array | None, augment: Array | None) -> Array:
        half = self.state["map_layer0.weight"].shape[1] // 2
        if "map_noise.freqs" in self.state:
            frequencies = 2 * np.pi * self.state["map_noise.freqs"]
        else:
            steps = half - 1 if self.is_song else half
            frequencies = 10_000.0 ** (-np.arange(half) / steps)
        angle = np.outer(noise, frequencies)
        order = [np.sin(angle), np.cos(angle)] if self.is_song else [np.cos(angle), np.sin(angle)]
        emb = np.concatenate(order, 1)
        if self.is_song and one_hot is not None:
            emb = emb + self.linear("map_label", one_hot * np.sqrt(one_hot.shape[1]))
        if augment is not None:
            emb = emb + self.linear("map_augment", augment)
        emb = self.linear("map_layer1", silu(self.linear("map_layer0", emb)))
        if not self.is_song and one_hot is not None:
            emb = emb + self.linear("map_label", one_hot)
        return silu(emb)

    def layers(self, half: str) -> list[str]:
        """Names in the order of the state dict; kernel-less layers have a filter only."""
        matches = [re.match(rf"{half}\.[^.]+", key) for key in self.state]
        return list(dict.fromkeys(match.group() for match in matches if match))

    def encode(self, x: Array, emb: Array) -> list[Array]:
        skips: list[Array] = []
        aux = x
        for name in self.layers("enc"):
            if name.endswith("_aux_down"):
                aux = halve(aux, self.unit_taps)
            elif name.endswith("_aux_skip"):
                skips[-1] = x = x + self.conv(name, aux)
            elif name.endswith("_aux_residual"):
                weight = self.state[f"{name}.weight"]
                margin = 1 + (len(self.taps) - 1) // 2
                aux = halve(convolve(aux, weight, margin), self.unit_taps, 0)
                aux = aux + self.state[f"{name}.bias"][:, None, None]
                skips[-1] = x = aux = (x + aux) / np.sqrt(2)
            else:
                x = self.conv(name, x) if name.endswith("_conv") else self.block(name, x, emb)
                skips.append(x)
        return skips

    def __call__(
        self,
        x: Array,
        noise: Array,
        one_hot: Array | None = None,
        augment: Array | None = None,
    ) -> Array:
        emb = self.embedding(noise, one_hot, augment)
        skips = self.encode(x, emb)
        x, image, normed = skips[-1], None, None
        for name in self.layers("dec"):
            if name.endswith("_aux_up"):
                image = double(image, self.unit_taps)
            elif name.endswith("_aux_norm"):
                normed = silu(self.norm(name, x))
            elif name.endswith("_aux_conv"):
                term = self.conv(name, normed)
                image = term if image is None else image + term
            else:
                x = np.concatenate([x, skips.pop()], 1) if "_block" in name else x
                x = self.block(name, x, emb)
        return image if self.is_song else self.conv("out_conv", silu(self.norm("out_norm", x)))
