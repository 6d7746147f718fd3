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
prepare_process(1)
page_faults()
print(page_faults(), torch.get_num_threads())
"""
PAGES = 5 * 16 * 4 * 2**20 // 4096  # of the arrays that page_faults makes


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc only")
def test_the_arrays_of_a_step_take_no_new_pages() -> None:
    process = subprocess.run([sys.executable, "-c", STEPS], capture_output=True, check=True)
    faults, threads = map(int, process.stdout.split())
    assert faults < PAGES / 100  # 33,000 to 82,000 of the 81,920 pages without the settings
    assert threads == 1
