"""A real browser for tests: Debian's Chromium, driven by Selenium. The fixtures ``browser`` and ``chromium`` use it.

    def test_the_list_shows_an_image(browser, start_server):
        server = start_server()
        browser.get(f"{server.url}/ui/")
        assert browser.find_element(By.CSS_SELECTOR, "tbody tr").text == "…"
        assert console(browser) == []

``browser`` runs the test at every size of VIEWPORTS. Where one is enough: ``@pytest.mark.parametrize("browser",
["narrow"], indirect=True)``. A Chromium with switches of its own: ``with open_browser("--some-switch") as browser``.
"""

import os
import shutil
from contextlib import contextmanager

import pytest
from selenium import webdriver
from selenium.webdriver.support.wait import WebDriverWait

VIEWPORTS = {"wide": (1280, 800), "narrow": (390, 844)}
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
SWITCHES = ["--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--no-proxy-server"]
SWITCHES += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
SWITCHES += ["--no-sandbox"] if os.geteuid() == 0 else []  # root has no sandbox
# Every name that ends in .example leads here, as an attacker's DNS would have it; no other leads anywhere.
NAMES = "MAP *.example 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1"
SWITCHES += [f"--host-resolver-rules={NAMES}"]


def require_browser():
    """Skips the test where there is none to install it with: it is never downloaded by a test."""
    missing = [name for name, path in (("chromium", CHROMIUM), ("chromedriver", DRIVER)) if path is None]
    if missing:
        pytest.skip(f"there is no {' and no '.join(missing)}: tests/install_browser.sh installs both")


@contextmanager
def open_browser(*switches, viewport="wide"):
    """A Chromium of its own, with an empty profile that is thrown away, and more ``switches``."""
    require_browser()
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for switch in (
        *SWITCHES,
        f"--host-resolver-rules={NAMES}",
        *(["--no-sandbox"] if os.geteuid() == 0 else []),
        *switches,
    ):
        options.add_argument(switch)
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    try:
        resize(driver, viewport)
        yield driver
    finally:
        driver.quit()


def resize(driver, viewport):
    """The page's inside gets this size: a window itself is never narrower than 500."""
    width, height = VIEWPORTS[viewport]
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def forget(driver):
    """No page, cookie, storage or cached answer is left of a test."""
    driver.get("about:blank")
    driver.execute_cdp_cmd("Network.clearBrowserCookies", {})
    driver.execute_cdp_cmd("Network.clearBrowserCache", {})
    driver.execute_cdp_cmd("Storage.clearDataForOrigin", {"origin": "*", "storageTypes": "all"})
    console(driver)


def console(driver):
    """What the console has said since it was last asked, refusals of a policy (CSP) included: [message]."""
    return [entry["message"] for entry in driver.get_log("browser")]


def wait_for(driver, script, seconds=60):
    """What ``script`` returns once that is neither null nor false; it is asked again until then."""
    return WebDriverWait(driver, seconds, poll_frequency=0.05).until(
        lambda page: page.execute_script(script), f"nothing came of: {script}"
    )
