"""A headless Chromium driven over the DevTools protocol, through pipes."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PATIENCE = 60.0  # seconds
_OPTIONS = (
    "--headless",
    "--disable-gpu",
    "--disable-dev-shm-usage",  # containers have little
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
)


class Tab:
    """One page: evaluates scripts, presses keys, and collects complaints and requests."""

    def __init__(self, read: int, write: int) -> None:
        self._read, self._write = os.fdopen(read, "rb"), os.fdopen(write, "wb")
        self._number, self._session = 0, ""
        self._buffer = b""
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.unchanged: Path | None = None  # the page as it was opened
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **params: Any) -> Any:
        """Send a command and return its result; events until then are collected."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        self._write.write(json.dumps(message).encode() + b"\0")
        self._write.flush()
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]
            self._collect(answer)

    def open(
        self, page: Path, *, width: int = 1280, height: int = 900, dark: bool = False
    ) -> None:
        """Open a file in a window of a size, and wait until its charts are drawn."""
        self.unchanged = None
        self.look(width, height, dark=dark)
        self.complaints.clear()
        self.requests.clear()
        self.send("Page.navigate", url=page.as_uri())
        self.wait("document.readyState === 'complete'")
        self.settle()

    def look(self, width: int, height: int = 900, *, dark: bool = False) -> None:
        """Set the size of the window and the preferred colours."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])

    def settle(self) -> None:
        """Wait until no chart is being drawn."""
        self.wait("window.isDrawn ? window.isDrawn() : true")

    def run(self, expression: str) -> Any:
        """Evaluate an expression in the page."""
        result = self.send(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in result, (expression, result["exceptionDetails"])
        return result["result"].get("value")

    def wait(self, expression: str) -> None:
        """Wait until an expression is true."""
        deadline = time.monotonic() + PATIENCE
        while not self.run(expression):
            assert time.monotonic() < deadline, (expression, self.complaints)
            time.sleep(0.05)

    def hover(self, selector: str, *, index: int = 0) -> tuple[float, float]:
        """Move the mouse to an element, a quarter of its size from its corner."""
        x, y = self.run(
            "new Promise((done) => { const box ="
            f"document.querySelectorAll({json.dumps(selector)})[{index}];"
            "box.scrollIntoView({block: 'center', behavior: 'instant'});"
            "requestAnimationFrame(() => requestAnimationFrame(() => {"
            "const r = box.getBoundingClientRect();"
            "done([r.x + r.width / 4, r.y + r.height / 4]); })); })"
        )
        for shift in (0, 1):
            self.send("Input.dispatchMouseEvent", type="mouseMoved", x=x + shift, y=y)
        return x, y

    def click(self, selector: str, *, index: int = 0) -> None:
        """Click an element with the mouse."""
        x, y = self.hover(selector, index=index)
        mouse = {"x": x, "y": y, "button": "left", "clickCount": 1}
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, **mouse)
        self.settle()

    def press(self, key: str) -> None:
        """Press a key."""
        codes = {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Enter": 13}
        for kind in ("keyDown", "keyUp"):
            self.send(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=codes.get(key, 0),
            )
        self.settle()

    def choose(self, selector: str, text: str) -> None:
        """Choose the option of a list that has a text."""
        self.run(
            f"(() => {{ const list = document.querySelector({json.dumps(selector)});"
            f"list.value = [...list.options].find((o) => o.text === {json.dumps(text)}).value;"
            "list.dispatchEvent(new Event('change')); })()"
        )
        self.settle()

    def close(self) -> None:
        """Close the pipes, which ends the browser."""
        self._read.close()
        self._write.close()

    def screenshot(self, file: Path) -> None:
        """Save a picture of the whole page."""
        size = self.send("Page.getLayoutMetrics")["cssContentSize"]
        clip = {**size, "scale": 1}
        shot = self.send("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        file.write_bytes(base64.b64decode(shot["data"]))

    def _receive(self) -> Any:
        while b"\0" not in self._buffer:
            part = self._read.read1(1 << 16)
            assert part, "the browser ended"
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def _collect(self, event: dict[str, Any]) -> None:
        params = event.get("params", {})
        match event.get("method"):
            case "Runtime.consoleAPICalled" if params["type"] in ("error", "warning", "assert"):
                self.complaints.append(json.dumps(params["args"]))
            case "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(params["exceptionDetails"]))
            case "Log.entryAdded" if params["entry"]["level"] in ("error", "warning"):
                self.complaints.append(params["entry"]["text"])
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])


@contextmanager
def browser_tab(browser: str, profile: Path) -> Iterator[Tab]:
    """Start a browser with an empty page and end it."""
    to_browser, from_browser = os.pipe(), os.pipe()
    options = [*_OPTIONS, f"--user-data-dir={profile}"]
    if os.geteuid() == 0:
        options.append("--no-sandbox")  # Chromium refuses to sandbox root
    process = subprocess.Popen(
        [
            "bash",
            "-c",
            f'exec "$@" 3<&{to_browser[0]} 4>&{from_browser[1]}',
            "-",
            browser,
            *options,
        ],
        pass_fds=(to_browser[0], from_browser[1]),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(to_browser[0])
    os.close(from_browser[1])
    try:
        tab = Tab(from_browser[0], to_browser[1])
        yield tab
        tab.close()
    finally:
        process.terminate()
        process.wait(PATIENCE)
