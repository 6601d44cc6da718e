"""A headless Chromium, spoken to over two pipes in the DevTools protocol; no package and no port is needed."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
BROWSER = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no browser: apt-get install chromium"),
]
"""The marks of a test that needs one."""
OPTIONS = (
    "--headless",
    "--no-sandbox",  # a container's root has none
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--remote-debugging-pipe",
)
CODES = {"Enter": 13, "Escape": 27, "Tab": 9, "Home": 36, "End": 35}
CODES |= {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
PATIENCE = 60.0
"""Seconds after which an answer is no longer expected; a machine at work on other things is slow."""


def by_id(identity: str) -> str:
    """JavaScript: the element of a name."""
    return f"document.getElementById('{identity}')"


class Browser:
    """One tab; use it as a context manager.

    Args:
        profile: folder for the browser's own files.
        width, height: of the window in CSS pixels.
    """

    def __init__(self, profile: Path, width: int = 1280, height: int = 800) -> None:
        commands_out, self._commands = os.pipe()
        self._answers, answers_in = os.pipe()
        # the browser reads commands from descriptor 3 and writes answers to 4
        shell = f'exec "$0" "$@" 3<&{commands_out} 4>&{answers_in}'
        words = [*OPTIONS, f"--user-data-dir={profile}", f"--window-size={width},{height}"]
        words = ["bash", "-c", shell, str(CHROMIUM), *words, "about:blank"]
        silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen(words, pass_fds=(commands_out, answers_in), **silent)
        os.close(commands_out)
        os.close(answers_in)
        self._buffer, self._number, self._session = b"", 0, {}
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")
        attached = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = {"sessionId": attached["sessionId"]}
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *unused: object) -> None:
        os.close(self._commands)
        os.close(self._answers)
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Sends a command and waits for its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params, **self._session}
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._commands, data) :]
        deadline = time.monotonic() + PATIENCE
        while True:
            answer = self._read(deadline)
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)

    def _read(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._answers], [], [], left)[0]:
                raise TimeoutError("the browser does not answer")
            data = os.read(self._answers, 1 << 20)
            if not data:
                raise RuntimeError("the browser is gone")
            self._buffer += data
        text, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(text)

    def open(self, url: str) -> None:
        """Loads a page, to the end."""
        self.events.clear()
        for address, arrived in (("about:blank", "==="), (url, "!==")):
            self.call("Page.navigate", url=address)
            self.wait(
                f"document.readyState === 'complete' && location.href {arrived} 'about:blank'"
            )

    def js(self, expression: str) -> Any:
        """The value of a JavaScript expression, promises awaited."""
        how = {"returnByValue": True, "awaitPromise": True}
        answer = self.call("Runtime.evaluate", expression=expression, **how)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"]["exception"].get("description"))
        return answer["result"].get("value")

    def wait(self, expression: str) -> None:
        """Waits until a JavaScript expression is true, on the next page if this one is about to go."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                if self.js(expression):
                    return
            except RuntimeError as error:
                if "navigated" not in str(error):
                    raise
            time.sleep(0.02)
        raise TimeoutError(expression)

    def text(self, identity: str) -> str:
        """What an element says."""
        return self.js(f"{by_id(identity)}.textContent")

    def press(self, *keys: str) -> None:
        """Presses keys, named as in KeyboardEvent.key, as a user would."""
        for key in keys:
            common = {"key": key, "code": key, "windowsVirtualKeyCode": CODES.get(key, 0)}
            text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
            down = {"type": "keyDown", "text": text} if text else {"type": "rawKeyDown"}
            self.call("Input.dispatchKeyEvent", **common, **down)
            self.call("Input.dispatchKeyEvent", **common, type="keyUp")
        # two frames: what a key moved is drawn
        self.js("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def resize(self, width: int, height: int) -> None:
        """Sets the window's size in CSS pixels."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)

    def scheme(self, name: str) -> None:
        """Sets the preferred colours, "light" or "dark"."""
        features = [{"name": "prefers-color-scheme", "value": name}]
        self.call("Emulation.setEmulatedMedia", features=features)

    def complaints(self) -> list[str]:
        """Errors and warnings since the page was opened: of the console, of scripts and of the security policy."""
        self.js("0")  # what was on its way has arrived
        kinds = {"Runtime.exceptionThrown": "exceptionDetails", "Runtime.consoleAPICalled": "args"}
        kinds["Log.entryAdded"] = "entry"
        methods = [(event.get("method"), event.get("params", {})) for event in self.events]
        return [str(params[kinds[method]]) for method, params in methods if method in kinds]

    def requested(self) -> list[str]:
        """Addresses asked for since the page was opened, data in the page aside."""
        sent = [e for e in self.events if e.get("method") == "Network.requestWillBeSent"]
        urls = [event["params"]["request"]["url"] for event in sent]
        return [url for url in urls if not url.startswith("data:")]
