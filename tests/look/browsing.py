"""A real browser to look at pages with, and realizations to look at."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

NO_BROWSER = "there is no chromium with its driver: apt-get install chromium chromium-driver"
needs_browser = pytest.mark.skipif(not (shutil.which("chromium") and shutil.which("chromedriver")), reason=NO_BROWSER)


class Browser:
    """A headless chromium, as a person at it sees a page."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, where: str | Path) -> None:
        self.driver.get(where.as_uri() if isinstance(where, Path) else where)
        self.wait(lambda: self.js("return document.body.dataset.drawn"))

    def js(self, program: str, *arguments: Any) -> Any:
        return self.driver.execute_script(program, *arguments)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def texts(self, selector: str) -> list[str]:
        found: list[str] = self.js(
            "return [...document.querySelectorAll(arguments[0])].map(one => one.textContent)", selector
        )
        return found

    def text(self, selector: str) -> str:
        (found,) = self.texts(selector)
        return found

    def wait(self, true: Callable[[], Any], seconds: float = 20.0) -> Any:
        deadline = time.monotonic() + seconds
        while not (found := true()):
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.05)
        return found

    def press(self, keys: str) -> None:
        self.driver.switch_to.active_element.send_keys(keys)

    def state(self, label: str) -> str:
        """The state of the stage with this label in the graph."""
        found: str = self.js(
            "return [...document.querySelectorAll('.node')]"
            ".find(one => one.getAttribute('aria-label').startsWith(arguments[0] + ':')).dataset.state",
            label,
        )
        return found

    def select(self, label: str) -> None:
        self.js(
            "[...document.querySelectorAll('.node')]"
            ".find(one => one.getAttribute('aria-label').startsWith(arguments[0] + ':'))"
            ".dispatchEvent(new MouseEvent('click', {bubbles: true}))",
            label,
        )

    def column(self, title: str) -> list[str]:
        """The cells of a column, as far as they are drawn."""
        heads = [text.strip() for text in self.texts("#table th button")]
        (at,) = [number for number, text in enumerate(heads, 1) if text.endswith(title)]
        return self.texts(f"#table tbody tr[data-id] td:nth-child({at})")

    def opened(self, identity: str) -> str:
        """The text of the panel, once it shows this realization with its details."""
        self.wait(lambda: self.all(f'#detail[data-id="{identity}"][aria-busy="false"]'))
        self.js("for (const one of document.querySelectorAll('#detail details')) one.open = true")
        return self.one("#detail").text

    def sort(self, title: str) -> None:
        next(one for one in self.all("#table th button") if one.text.endswith(title)).click()

    def said(self) -> list[str]:
        """What the console says: errors of the program, and what the page's policy refused."""
        return [one["message"] for one in self.driver.get_log("browser")]

    def asked(self) -> list[str]:
        """The addresses that the browser asked for since it was asked this."""
        found = []
        for line in self.driver.get_log("performance"):
            message = json.loads(line["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                found.append(message["params"]["request"]["url"])
        return found

    def prefers(self, scheme: str) -> None:
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)


@contextmanager
def browsing() -> Iterator[Browser]:
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    # Root has no sandbox in chromium, and a container's /dev/shm may be small.
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1400,1100"):
        options.add_argument(argument)
    options.add_argument("--disable-background-networking")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        yield Browser(driver)
    finally:
        driver.quit()
