"""A headless Chromium, controlled by the WebDriver protocol."""

import base64
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.drivers.process import PATIENCE
from tests.drivers.tools import installed

_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
"""Key of a reference to an element, as defined by the WebDriver standard."""
_OPTIONS = {
    "browserName": "chrome",
    "goog:loggingPrefs": {"browser": "ALL"},
    "goog:chromeOptions": {
        "args": [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
        ]
    },
}
TAB, ENTER = "\ue004", "\ue007"


class Browser:
    """A session of a browser with one window."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client
        created = self._call("POST", "/session", {"capabilities": {"alwaysMatch": _OPTIONS}})
        self._session = f"/session/{created['sessionId']}"

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        answer = self._client.request(method, path, json=body).json()["value"]
        assert not (isinstance(answer, dict) and "error" in answer), answer
        return answer

    def _post(self, path: str, **body: Any) -> Any:
        return self._call("POST", f"{self._session}/{path}", body)

    def open(self, url: str) -> None:
        """Load a page."""
        self._post("url", url=url)

    def run(self, script: str, *arguments: Any) -> Any:
        """Run the body of a function in the page; return its result, awaited if it is a promise."""
        return self._post("execute/sync", script=script, args=list(arguments))

    def command(self, name: str, **parameters: Any) -> Any:
        """Send a command of Chromium's own protocol."""
        return self._post("goog/cdp/execute", cmd=name, params=parameters)

    def show(self, width: int, height: int, *, dark: bool = False) -> None:
        """Set the size of the window and the colour scheme."""
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.command("Emulation.setEmulatedMedia", features=[scheme])

    def set_scripts(self, *, enabled: bool) -> None:
        """Set whether pages that are loaded from now on run scripts."""
        self.command("Emulation.setScriptExecutionDisabled", value=not enabled)

    def find(self, selector: str) -> str:
        """Return a reference to the first element of a CSS selector."""
        return str(self._post("element", using="css selector", value=selector)[_ELEMENT])

    def press(self, element: str, keys: str) -> None:
        """Type into an element."""
        self._post(f"element/{element}/value", text=keys)

    def click(self, element: str) -> None:
        """Click an element."""
        self._post(f"element/{element}/click")

    def text(self, selector: str) -> str:
        """Return the visible text of the first element of a CSS selector."""
        return str(self._call("GET", f"{self._session}/element/{self.find(selector)}/text"))

    def url(self) -> str:
        """Return the URL of the page."""
        return str(self._call("GET", f"{self._session}/url"))

    def messages(self) -> list[str]:
        """Return the browser's log since the last call, such as violations of the content security policy."""
        return [entry["message"] for entry in self._post("se/log", type="browser")]

    def picture(self, path: Path) -> None:
        """Write a picture of the window as PNG."""
        path.write_bytes(base64.b64decode(self._call("GET", f"{self._session}/screenshot")))

    def close(self) -> None:
        """End the session and the browser."""
        self._call("DELETE", self._session)


@contextmanager
def browser() -> Iterator[Browser]:
    """Run a browser while the context lasts; skip the test where it is not installed."""
    installed("chromium")
    driver = subprocess.Popen(
        [installed("chromedriver"), "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert driver.stdout is not None
        port = next(found[1] for line in driver.stdout if (found := re.search(r"on port (\d+)\.", line)))
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}", timeout=2 * PATIENCE, trust_env=False
        ) as client:
            session = Browser(client)
            yield session
            session.close()
    finally:
        driver.terminate()
        driver.wait(PATIENCE)
        if driver.stdout is not None:
            driver.stdout.close()
