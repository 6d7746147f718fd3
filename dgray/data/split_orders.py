"""Orders from which splits take their samples, by content and seed. No torch, and no NumPy."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

APART = ("held_out", "validation")


def digests_of(samples: NDArray[Any]) -> list[bytes]:
    """Return the SHA-256 of the content of each sample; ``samples``: (N, ...), contiguous."""
    return [hashlib.sha256(sample.data).digest() for sample in samples]


def split_orders(
    digests: Sequence[bytes],
    sizes: Mapping[str, int],
    seed: int,
    *,
    labels: Sequence[int] | None = None,
    is_test: Sequence[bool] | None = None,
) -> Iterator[tuple[str, list[int]]]:
    """Yield each split with the indices that it can have, in its order.

    A split is the first ``sizes[name]`` of them; a greater size is impossible. ``held_out`` and
    ``validation`` come first.

    Args:
        digests: content of each sample.
        sizes: number of samples of each split.
        seed: seed of the study.
        labels: class of each sample, which orders identical ones; None: no classes.
        is_test: marks of the test part; None: there is none.
    """
    candidates, pool = _parts(digests, is_test)

    def order(indices: Iterable[int], name: str) -> list[int]:
        key = hashlib.sha256(repr((seed, name)).encode())

        def place(index: int) -> tuple[bytes, int]:
            keyed = key.copy()
            keyed.update(digests[index])
            return keyed.digest(), -1 if labels is None else labels[index]

        return sorted(indices, key=place)

    apart = order(candidates, "apart")
    taken: set[bytes] = set()
    for name, ordered in zip(APART, (apart, apart[::-1]), strict=True):
        left = [index for index in ordered if digests[index] not in taken]
        taken.update(digests[index] for index in left[: sizes.get(name, 0)])
        yield name, left
    pool = [index for index in pool if digests[index] not in taken]
    for name in sizes:
        if name not in APART:
            yield name, order(pool, name)


def _parts(
    digests: Sequence[bytes], is_test: Sequence[bool] | None
) -> tuple[list[int], list[int]]:
    """Return the indices of candidates for held-out and validation samples, and of the pool."""
    if is_test is None:
        return list(range(len(digests))), list(range(len(digests)))
    pool = [index for index, test in enumerate(is_test) if not test]
    in_pool = {digests[index] for index in pool}
    test_part = (index for index, test in enumerate(is_test) if test)
    return [index for index in test_part if digests[index] not in in_pool], pool
