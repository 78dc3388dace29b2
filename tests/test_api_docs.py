"""/docs, /openapi.json and /versions: the API's own description, for people and for programs."""

import hashlib
import re
import shutil

import pytest
from conftest import ROOT
from support.openapi import DOCUMENT

from config import VERSION

VENDORED = ROOT / "ui" / "static" / "vendor" / "rapidoc"
PATHS = ("/docs", "/docs/rapidoc.js", "/openapi.json", "/versions")


def test_the_document_that_is_served_is_the_file_for_the_server_that_is_asked(client):
    answer = client.get("/openapi.json")

    assert answer.json == {**DOCUMENT, "servers": [{"url": "/"}]}


def test_versions_name_the_product_s_and_the_api_s(client):
    answer = client.get("/versions")

    assert answer.json["version"] == VERSION
    assert [version["id"] for version in answer.json["versions"]] == [f"v{DOCUMENT['info']['version']}"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("flavor", ["token", "trusted-auth"])
def test_the_description_is_there_for_who_is_not_known(make_client, path, flavor):
    assert make_client(auth__flavor=flavor).get(path).status_code == 200


@pytest.mark.parametrize("path", PATHS)
def test_the_description_is_not_for_pages_whose_name_was_turned_to_us(client, path):
    assert client.get(path, headers={"Host": "evil.example"}).status_code == 400


def test_the_page_runs_our_script_alone_and_asks_no_other_host(client):
    answer = client.get("/docs")

    (policy,) = answer.headers.getlist("Content-Security-Policy")
    assert "script-src 'self';" in policy
    assert "default-src 'none'" in policy
    assert re.findall(r"https?://", answer.text) == []
    assert re.findall(r'<script[^>]* src="(.*?)"', answer.text) == ["/docs/rapidoc.js"]
    assert client.get("/docs/rapidoc.js").mimetype == "text/javascript"


def test_the_page_names_the_product_s_version(client):
    assert f"the image registry {VERSION}." in client.get("/docs").text


def test_vendored_files_are_what_their_table_says():
    table = (VENDORED / "VENDORED.md").read_text()
    rows = dict(re.findall(r"^\| `(.+?)` \|.*`([0-9a-f]{64})`", table, re.MULTILINE))

    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in VENDORED.iterdir()
        if path.name != "VENDORED.md"
    }

    assert found == rows


@pytest.fixture
def browser():
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("there is no chromium with chromedriver to look at the page with")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1280,1000"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()


SHOWN = "return document.querySelector('rapi-doc')?.shadowRoot?.textContent ?? ''"


@pytest.mark.exhaustive
def test_a_browser_shows_every_operation_and_complains_of_nothing(browser, server):
    from selenium.webdriver.support.ui import WebDriverWait

    browser.get(f"{server.url}/docs")

    WebDriverWait(browser, 30).until(lambda driver: "Register an image" in driver.execute_script(SHOWN))
    text = browser.execute_script(SHOWN)
    assert [path for path in DOCUMENT["paths"] if path not in text] == []
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
    assert VERSION in browser.find_element("css selector", "rapi-doc p").text
    hosts = "return performance.getEntriesByType('resource').map(entry => new URL(entry.name).origin)"
    assert set(browser.execute_script(hosts)) <= {server.url, "null"}


TRY = """
const root = document.querySelector('rapi-doc').shadowRoot;
const section = root.getElementById('get-/versions');
const request = section?.querySelector('api-request')?.shadowRoot;
const button = request?.querySelector('.m-btn.primary');
if (button && !button.dataset.pressed) { button.dataset.pressed = '1'; button.click(); }
return request?.textContent ?? '';
"""


@pytest.mark.exhaustive
def test_a_reader_of_the_page_can_try_an_operation_on_this_very_server(browser, server):
    from selenium.webdriver.support.ui import WebDriverWait

    browser.get(f"{server.url}/docs#get-/versions")

    WebDriverWait(browser, 30).until(lambda driver: "Response Status: OK:200" in driver.execute_script(TRY))
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
