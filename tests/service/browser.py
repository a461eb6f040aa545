"""A headless Chromium for tests of the page: what it shows, what it loads, and what it complains of."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

WAIT_S = 60
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--lang=en")


def missing() -> str:
    """What is not installed here; "" = nothing."""
    return ", ".join(name for name in ("chromium", "chromedriver") if not shutil.which(name))


class Browser:
    """One page of a browser."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, url: str, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Open an address in a window of this size, and forget what was complained of before."""
        self._resize(width, height)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
        self.driver.get("about:blank")
        self.complaints()
        self.driver.get(url)

    def _resize(self, width: int, height: int) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def wait(self, condition):  # type: ignore[no-untyped-def]
        """Until condition(self) is true; its value."""
        return WebDriverWait(self, WAIT_S, poll_frequency=0.05).until(condition)

    def answered(self) -> str:
        """Wait for the end of what was asked; what the page says of it."""
        return str(self.wait(lambda page: (said := page.text("#message")) not in ("", "Asking ...") and said))

    def text(self, selector: str) -> str:
        """Text of the first element, as it is seen."""
        return str(self.driver.find_element(By.CSS_SELECTOR, selector).text)

    def texts(self, selector: str) -> list[str]:
        """Text of every element."""
        return [element.text for element in self.driver.find_elements(By.CSS_SELECTOR, selector)]

    def count(self, selector: str) -> int:
        """How many elements there are."""
        return len(self.driver.find_elements(By.CSS_SELECTOR, selector))

    def run(self, script: str):  # type: ignore[no-untyped-def]
        """What an expression of JavaScript is."""
        return self.driver.execute_script(f"return {script}")

    def press(self, *keys: str) -> None:
        """Keys, to whatever has the focus."""
        webdriver.ActionChains(self.driver).send_keys(*keys).perform()

    def press_with(self, held: str, key: str) -> None:
        """A key while another one is held."""
        webdriver.ActionChains(self.driver).key_down(held).send_keys(key).key_up(held).perform()

    def focus(self) -> str:
        """Id, or name, of what has the focus."""
        return str(self.run("document.activeElement.id || document.activeElement.name || document.activeElement.className"))

    def complaints(self) -> list[str]:
        """What the console has of warnings and errors since the last look."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] in ("WARNING", "SEVERE")]

    def hosts(self) -> set[str]:
        """All hosts that something was loaded from."""
        return set(self.run("performance.getEntriesByType('resource').map((one) => new URL(one.name).host)"))

    def shoot(self, path: Path) -> None:
        """The whole page as a PNG."""
        width = self.run("window.innerWidth")
        self._resize(width, 200)  # a window that is higher than the page would be part of the picture
        self._resize(width, self.run("document.documentElement.scrollHeight"))
        path.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(BytesIO(self.driver.get_screenshot_as_png())) as picture:
            picture.convert("RGB").quantize(256).save(path, optimize=True)


@contextmanager
def browser() -> Iterator[Browser]:
    """Start one, and end it."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        yield Browser(driver)
    finally:
        driver.quit()
