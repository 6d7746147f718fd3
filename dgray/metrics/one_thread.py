"""numpy's linear algebra on one thread: sums in another order would round to other bits.

torch's threads are set by a trial; those of numpy's BLAS are nobody's, and how many there are
differs from engine to engine and machine to machine.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache
from typing import Any

import scipy.linalg  # noqa: F401  # its own BLAS must be loaded to be found
from threadpoolctl import ThreadpoolController


def one_blas_thread() -> AbstractContextManager[Any]:
    """Inside the block BLAS and LAPACK run on the calling thread alone."""
    limited: AbstractContextManager[Any] = _controller().limit(limits=1, user_api="blas")
    return limited


@cache  # looking through the loaded libraries takes milliseconds
def _controller() -> ThreadpoolController:
    return ThreadpoolController()
