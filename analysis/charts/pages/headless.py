"""A headless Chromium, asked over its pipe for DevTools, for the tests of pages.

The protocol is one JSON object after the other with a zero byte between. It needs no port: nobody
else reaches the browser, and it ends when the pipe does. https://chromedevtools.github.io/devtools-protocol
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from workloads.files import resolved
from workloads.processes import ChildProcess, end, start, wait

NAMES = ("chromium", "chromium-browser", "google-chrome")
HOW_TO_GET = "no Chromium is here; on Debian: apt-get install chromium"
LIMIT_S, CLOSE_S = 60.0, 5.0
FLAGS = (
    "--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--no-zygote", "--disable-gpu",
    "--no-first-run", "--disable-extensions", "--disable-background-networking", "--disable-sync",
    "--disable-component-update", "--disable-default-apps", "--disable-dev-shm-usage",
    "--hide-scrollbars", "--force-color-profile=srgb", "--mute-audio",
)  # fmt: skip
# The browser reads from its descriptor 3 and writes to 4; ours have other numbers.
BY_NUMBER = """
import fcntl, os, sys
reads, writes = (fcntl.fcntl(int(one), fcntl.F_DUPFD, 10) for one in sys.argv[1:3])
os.dup2(reads, 3)
os.dup2(writes, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


def chromium() -> str | None:
    """The browser's path, None where the machine has none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One browser with one tab. `requests` are the addresses that it was asked to fetch, and
    `complaints` what it wrote to its console or refused to run, since the last `open`.
    """

    def __init__(self, folder: Path) -> None:
        """Folder : for its profile and its standard error. Raises OSError where it cannot start."""
        program = chromium()
        if program is None:
            raise FileNotFoundError(HOW_TO_GET)
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        argv = [sys.executable, "-I", "-S", "-c", BY_NUMBER, str(theirs_in), str(theirs_out)]
        argv += [program, *FLAGS, f"--user-data-dir={folder / 'profile'}", "about:blank"]
        self._child: ChildProcess = start(
            "chromium",
            argv,
            last_words=folder / "chromium.stderr",
            inherit=(theirs_in, theirs_out),
            foreign=True,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._read, self._number, self._session = b"", 0, ""
        self.requests: list[str] = []
        self.complaints: list[str] = []
        targets = self.call("Target.getTargets")["targetInfos"]
        tab = next(one["targetId"] for one in targets if one["type"] == "page")
        attached = self.call("Target.attachToTarget", targetId=tab, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, what: BaseException | None, at: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError, AssertionError):
            self._session = ""
            self.call("Browser.close")
        wait(self._child, CLOSE_S)  # it ends its own processes, and then itself
        end(self._child.process)
        for descriptor in (self._out, self._in):
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def open(self, path: Path, *, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Load a file as somebody who double-clicks it, in a window of that size, px."""
        phone = width < 600
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                   deviceScaleFactor=1, mobile=phone)  # fmt: skip
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=scheme)
        self.requests.clear()
        self.complaints.clear()
        self.call("Page.navigate", url=resolved(path).as_uri())
        self._until("Page.loadEventFired")

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page; a promise is waited for."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True,
                            awaitPromise=True)  # fmt: skip
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, expression: str) -> None:
        """Until the expression is true in the page; AssertionError after a minute."""
        until = time.monotonic() + LIMIT_S
        while not self.ask(f"Boolean({expression})"):
            assert time.monotonic() < until, f"never true: {expression}"
            time.sleep(0.02)

    def press(self, key: str, times: int = 1, *, shift: bool = False) -> None:
        """Press and release a key, by its name (Tab, ArrowLeft, Enter, a letter)."""
        code = {"Tab": 9, "Enter": 13, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39,
                "ArrowDown": 40, "Home": 36, "End": 35, "Escape": 27}.get(key, 0)  # fmt: skip
        text = {"text": "\r" if key == "Enter" else key} if key == "Enter" or len(key) == 1 else {}
        about = {"key": key, "windowsVirtualKeyCode": code, "modifiers": 8 if shift else 0}
        for _ in range(times):
            self.call("Input.dispatchKeyEvent", type="keyDown", **about, **text)
            self.call("Input.dispatchKeyEvent", type="keyUp", **about)

    def point(self, x: float, y: float) -> None:
        """Move the pointer there."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def picture(self, path: Path, *, whole: bool = True) -> None:
        """A PNG of the page."""
        made = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(made["data"]))

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """A command of the protocol, and its answer."""
        self._number += 1
        order = {"id": self._number, "method": method, "params": params}
        if self._session:
            order["sessionId"] = self._session
        os.write(self._out, json.dumps(order).encode() + b"\0")
        for message in self._messages():
            if message.get("id") == self._number:
                assert "error" not in message, f"{method}: {message['error']}"
                found: dict[str, Any] = message["result"]
                return found
        raise AssertionError(f"{method}: no answer")

    def _until(self, event: str) -> None:
        assert any(message.get("method") == event for message in self._messages())

    def _messages(self) -> Iterator[dict[str, Any]]:
        """What the browser says, one after the other; each has its time limit."""
        while True:
            while b"\0" not in self._read:
                ready = select.select([self._in], [], [], LIMIT_S)[0]
                more = os.read(self._in, 1 << 20) if ready else b""
                said = self._child.stderr_text()[-2000:]
                assert more, f"the browser {'ended' if ready else 'says nothing'}: {said}"
                self._read += more
            text, _, self._read = self._read.partition(b"\0")
            message: dict[str, Any] = json.loads(text)
            self._note(message.get("method", ""), message.get("params", {}))
            yield message

    def _note(self, method: str, about: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self.requests.append(about["request"]["url"])
        elif method == "Log.entryAdded":
            self.complaints.append(about["entry"]["text"])
        elif method == "Runtime.exceptionThrown":
            details = about["exceptionDetails"]
            self.complaints.append(details.get("exception", {}).get("description", str(details)))
        elif method == "Runtime.consoleAPICalled":
            self.complaints.append(str([one.get("value") for one in about["args"]]))
        elif method == "Page.javascriptDialogOpening":
            self.complaints.append(f"a dialog: {about['message']}")
            raise AssertionError(self.complaints[-1])
