"""The first signal ends a study at a safe point, the second at once; handlers are restored."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dgray.engine.interrupt import STOPPING, deferred_interrupt, interruptible

ROOT = Path(__file__).parents[2]
SIGNALS = (signal.SIGINT, signal.SIGTERM)


def handlers() -> list[object]:
    return [signal.getsignal(number) for number in SIGNALS]


@pytest.mark.parametrize("sent", SIGNALS)
def test_the_first_signal_interrupts(sent: signal.Signals) -> None:
    before = handlers()
    with pytest.raises(KeyboardInterrupt), interruptible():
        signal.raise_signal(sent)
    assert handlers() == before


@pytest.mark.parametrize("sent", SIGNALS)
def test_where_it_is_deferred_the_first_signal_is_noted_only(sent: signal.Signals) -> None:
    before = handlers()
    with interruptible(), deferred_interrupt() as noted:
        assert not noted.is_set()
        signal.raise_signal(sent)
        assert noted.is_set()
    with deferred_interrupt() as noted:
        signal.raise_signal(sent)
        assert noted.is_set()
    assert handlers() == before
    with interruptible():
        with deferred_interrupt() as noted:
            assert not noted.is_set()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(sent)


@pytest.mark.parametrize("block", ["interruptible", "deferred_interrupt"])
def test_the_second_signal_ends_the_process_at_once(block: str) -> None:
    script = f"""
import signal, time
from dgray.engine.interrupt import {block}
with {block}():
    try:
        signal.raise_signal(signal.SIGTERM)
    except KeyboardInterrupt:
        pass
    try:
        signal.raise_signal(signal.SIGINT)
        time.sleep(60)
    finally:
        print("tidied up")
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 130
    assert done.stdout == ""
    assert done.stderr.startswith(f"{STOPPING}\nstopped at once; finished work is kept")


def test_signals_are_answered_while_python_code_cannot_run_in_the_main_thread() -> None:
    script = """
import hashlib, os
from dgray.engine.interrupt import interruptible
with interruptible():
    while True:
        try:
            os.write(1, b"started")
            hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)  # minutes, without the GIL
        except KeyboardInterrupt:
            pass  # the signal came before the computation began
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(7) == b"started"
        process.send_signal(signal.SIGINT)
        assert process.stderr.readline().decode() == f"{STOPPING}\n"
        process.send_signal(signal.SIGTERM)
        assert process.stderr.readline().startswith(b"stopped at once")
        assert process.wait(timeout=10) == 130
