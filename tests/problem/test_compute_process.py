"""Processes that compute keep the memory of freed arrays."""

import platform
import subprocess
import sys

import pytest

STEPS = """\
import resource, torch
from dgray.problem.compute_process import prepare_process

def page_faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        arrays = [torch.zeros(2**20) for _ in range(16)]
        del arrays
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

torch.set_num_threads(2)
first = page_faults()
prepare_process(1)
page_faults()
print(first, page_faults(), torch.get_num_threads())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc only")
def test_the_arrays_of_a_step_take_no_new_pages() -> None:
    process = subprocess.run([sys.executable, "-c", STEPS], capture_output=True, check=True)
    before, after, threads = map(int, process.stdout.split())
    assert before > 5 * 16 * 2**20 * 4 / 4096 / 2
    assert after < before / 10
    assert threads == 1
