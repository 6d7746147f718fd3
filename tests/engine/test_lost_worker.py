"""Messages of Ray about lost workers, as one line that names memory."""

from __future__ import annotations

import pytest

from dgray.engine.lost_worker import loss_reason

# Ray 2.60, with RAY_memory_usage_threshold lowered, and with a worker that was killed.
LOW_MEMORY = """Task was killed due to the node running low on memory.
Memory on the node (IP: 127.0.0.1, ID: 72260a31be0e) was 4.89GB used / 23.54GB limit (0.207717)
OOM kill reason: The memory usage exceeds the threshold. To see more, use `ray logs raylet.out`.
"""
KILLED = """The actor died unexpectedly before finishing this task. class_name: _Trainable
Worker exit type: SYSTEM_ERROR Worker exit detail: Worker unexpectedly exits with a connection
error code 2. End of file. Some common causes include: (1) the process was killed by the OOM
"""
NODE = "Worker exit detail: The node was terminated: preempted. Some common causes include: (1)"


@pytest.mark.parametrize(
    ("message", "start"),
    [
        (LOW_MEMORY, "the memory of its node was nearly full (4.89GB of 23.54GB used), so Ray "),
        (KILLED, "its process exited, crashed or was killed (Ray does not report which); if the"),
        (NODE, "The node was terminated: preempted."),
        ("another message " * 50, "message another message"),
    ],
)
def test_the_reason_is_one_line(message: str, start: str) -> None:
    reason = loss_reason(message)
    assert reason.startswith(start)
    assert reason.isprintable()
    assert len(reason) < 350
    assert ("lower evaluate.batch_size" in reason) == (message in (LOW_MEMORY, KILLED))
