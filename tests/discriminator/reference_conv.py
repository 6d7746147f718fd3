"""One convolutional discriminator of one image, written out in NumPy from its description."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

Array = np.ndarray


def silu(h: Array) -> Array:
    return h / (1 + np.exp(-h))


def convolve(h: Array, weight: Array, bias: Array | None = None) -> Array:
    """Maps (C, H, W), zero padded; weight (out, C, k, k)."""
    k = weight.shape[-1]
    padded = np.pad(h, ((0, 0), (k // 2, k // 2), (k // 2, k // 2)))
    out = np.zeros((len(weight), *h.shape[1:]))
    for i in range(k):
        for j in range(k):
            shifted = padded[:, i : i + h.shape[1], j : j + h.shape[2]]
            out += np.einsum("oc,chw->ohw", weight[:, :, i, j], shifted)
    return out if bias is None else out + bias[:, None, None]


def normalise(h: Array) -> Array:
    """By groups of at least four channels, at most 32 groups."""
    groups = max(1, min(32, len(h) // 4))
    parts = np.split(h, groups)
    return np.concatenate([(p - p.mean()) / np.sqrt(p.var() + 1e-5) for p in parts])


def halve(h: Array) -> Array:
    """Means over 2x2 windows; those at an odd edge are smaller."""
    rows, columns = (range(0, side, 2) for side in h.shape[1:])
    return np.stack(
        [np.stack([h[:, i : i + 2, j : j + 2].mean((1, 2)) for j in columns], -1) for i in rows],
        -2,
    )


def logit(
    p: Mapping[str, Array], image: Array, sigma: float, *, depth: int, label: int = -1
) -> float:
    """Depth: blocks per level; attention and classes are there if their weights are."""
    log_sigma = np.log(sigma)
    features = np.array([log_sigma / 4, np.sin(log_sigma), np.cos(log_sigma)])
    hidden = silu(p["embed.0.weight"] @ features + p["embed.0.bias"])
    embedding = p["embed.1.weight"] @ hidden + p["embed.1.bias"]
    if label >= 0:
        embedding = embedding + p["label.weight"][:, label]
    embedding = silu(embedding)
    h = convolve(image, p["stem.weight"], p["stem.bias"])
    block = 0
    while True:
        for _ in range(depth):
            h = residual(p, f"block.{block}", h, embedding)
            block += 1
        if max(h.shape[1:]) <= 4:
            break
        h = halve(h)
    if "attention.qkv.weight" in p:
        h = attend(p, h)
    scaled = scale_and_shift(p, "out.norm", normalise(h))
    return float(p["out.weight"][0] @ silu(scaled).mean((1, 2)) + p["out.bias"][0])


def scale_and_shift(p: Mapping[str, Array], name: str, h: Array) -> Array:
    return h * p[f"{name}.weight"][:, None, None] + p[f"{name}.bias"][:, None, None]


def residual(p: Mapping[str, Array], name: str, h: Array, embedding: Array) -> Array:
    a = silu(scale_and_shift(p, f"{name}.norm", normalise(h)))
    a = convolve(a, p[f"{name}.conv.0.weight"], p[f"{name}.conv.0.bias"])
    affine = p[f"{name}.affine.weight"] @ embedding + p[f"{name}.affine.bias"]
    scale, shift = np.split(affine, 2)
    a = silu(normalise(a) * (1 + scale[:, None, None]) + shift[:, None, None])
    a = convolve(a, p[f"{name}.conv.1.weight"], p[f"{name}.conv.1.bias"])
    skip = p.get(f"{name}.skip.weight")
    return ((h if skip is None else convolve(h, skip)) + a) / np.sqrt(2)


def attend(p: Mapping[str, Array], h: Array) -> Array:
    qkv = convolve(scale_and_shift(p, "attention.norm", normalise(h)), p["attention.qkv.weight"])
    q, k, v = np.split(qkv.reshape(len(qkv), -1), 3)  # (channels, pixels)
    scores = q.T @ k / np.sqrt(len(q))
    weights = np.exp(scores - scores.max(1, keepdims=True))
    weights /= weights.sum(1, keepdims=True)
    mixed = (v @ weights.T).reshape(h.shape)
    return (h + convolve(mixed, p["attention.out.weight"], p["attention.out.bias"])) / np.sqrt(2)
