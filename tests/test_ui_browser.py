"""The pages in a real browser: every flow, wide and narrow, light and dark, by keyboard, without JavaScript too."""

import pytest
from conftest import IMAGE, ROOT
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait
from support.browser import console, wait_for

import auth
from storage import engine

AXE = (ROOT / "tests" / "vendor" / "axe.min.js").read_text(encoding="utf-8")
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
RUN_AXE = """const done = arguments[arguments.length - 1];
axe.run(document, {runOnly: arguments[0]}).then(found => done(found.violations.map(
    each => each.id + ": " + each.nodes.map(node => node.target + " " + node.failureSummary).join("; "))));"""
DISTROS = ("debian", "ubuntu", "fedora")


@pytest.fixture
def site(start_server):
    """A server with sixty images; its ``images`` are their records."""
    server = start_server()
    server.images = []
    for number in range(60):
        distro = DISTROS[number % 3]
        fields = {"name": f"{distro}-{number:02}", "size": number << 24, "properties": {"os_distro": distro}}
        fields |= {"location": f"https://user:word@host/{number}", "checksum": f"{number % 50:032x}"}
        fields |= {"status": "saving" if number == 7 else "active", "is_public": number % 2 == 0, "owner": "acme"}
        server.images.append(server.request("POST", "/images", {"image": {**IMAGE, **fields}})[2]["image"])
    return server


@pytest.fixture(autouse=True)
def patience(browser):
    """A page may take its time to give way to the next."""
    browser.implicitly_wait(30)
    yield
    browser.implicitly_wait(0)


def in_scheme(browser, scheme):
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


@pytest.fixture
def scripts_off(browser):
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    yield browser
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def violations(browser):
    """What axe finds; it is run from outside, since the page's own policy would refuse it."""
    browser.execute_script(AXE)
    return browser.execute_async_script(RUN_AXE, RULES)


def overflow(browser):
    """How many pixels the page is wider than the window, if it is."""
    script = "const page = document.documentElement; return Math.max(0, page.scrollWidth - page.clientWidth)"
    return browser.execute_script(script)


def hosts(browser):
    """Of all that the page has loaded, and itself."""
    script = "return [location.host, ...performance.getEntriesByType('resource').map(each => new URL(each.name).host)]"
    return set(browser.execute_script(script))


def names(browser):
    return [cell.text for cell in browser.find_elements(By.CSS_SELECTOR, "tbody th.name > a")]


def press(browser, *keys):
    ActionChains(browser).send_keys(*keys).perform()


def click(browser, selector):
    element = browser.find_element(By.CSS_SELECTOR, selector)
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
    element.click()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_fails_axe_scrolls_sideways_asks_elsewhere_or_complains(browser, site, scheme):
    in_scheme(browser, scheme)
    image = site.images[4]
    path = f"/ui/images/{image['id']}"
    site.request("PUT", f"/images/{image['id']}/members/initech")
    found = {}

    pages = ["", "?q=debian&status=active", "?q=nowhere", "/new"]
    for place in [*(f"/ui/images{page}" for page in pages), path, f"{path}/edit", f"{path}/delete", "/ui/dashboard"]:
        browser.get(f"{site.url}{place}")
        found[place] = (violations(browser), overflow(browser), hosts(browser), console(browser))

    assert found == {place: ([], 0, {f"127.0.0.1:{site.port}"}, []) for place in found}


@pytest.mark.exhaustive
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_of_refusals_and_of_nothing_are_accessible_too(browser, start_server, tmp_path, scheme):
    in_scheme(browser, scheme)
    server = start_server(auth__flavor="token")
    empty = start_server(database__connection=f"sqlite:///{tmp_path}/empty.db")

    found = {}
    for place in (f"{server.url}/ui/signin", f"{server.url}/ui/nowhere", f"{empty.url}/ui"):
        browser.get(place)
        found[place] = (violations(browser), overflow(browser))

    assert found == dict.fromkeys(found, ([], 0))


def test_a_search_is_answered_as_it_is_typed_and_has_an_address(browser, site):
    browser.get(f"{site.url}/ui")
    box = browser.find_element(By.ID, "q")

    box.send_keys("debian-03")
    wait_for(browser, "return document.querySelectorAll('tbody tr').length === 1")

    assert names(browser) == ["debian-03"]
    assert browser.current_url == f"{site.url}/ui/images?q=debian-03"
    assert browser.switch_to.active_element == box
    browser.back()
    wait_for(browser, "return document.querySelectorAll('tbody tr').length === 25")
    assert browser.find_element(By.ID, "q").get_attribute("value") == ""
    assert console(browser) == []


@pytest.mark.exhaustive
def test_filters_sorting_and_pages_are_links_that_add_up(browser, site):
    browser.get(f"{site.url}/ui")

    click(browser, "#chip-visibility")
    browser.find_element(By.LINK_TEXT, "public").click()
    wait_for(browser, "return location.search.includes('visibility=public')")
    click(browser, "#chip-sort")
    browser.find_element(By.LINK_TEXT, "Name, A to Z").click()
    wait_for(browser, "return location.search.includes('sort_key=name')")
    first = names(browser)
    click(browser, "#next")
    wait_for(browser, "return location.search.includes('marker=')")
    second = names(browser)
    click(browser, "#previous")
    wait_for(browser, "return location.search.includes('before=')")

    expected = sorted(image["name"] for image in site.images if image["is_public"])
    assert first + second == expected
    assert names(browser) == first
    assert console(browser) == []


@pytest.mark.exhaustive
@pytest.mark.parametrize("browser", ["wide"], indirect=True)
def test_a_column_is_sorted_by_its_head_and_says_so(browser, site):
    browser.get(f"{site.url}/ui")

    click(browser, "#sort-size")
    wait_for(browser, "return location.search.includes('sort_key=size')")
    click(browser, "#sort-size")
    wait_for(browser, "return location.search.includes('sort_dir=asc')")

    head = browser.find_element(By.CSS_SELECTOR, "th[aria-sort]")
    assert (head.text[:4], head.get_attribute("aria-sort")) == ("Size", "ascending")
    assert browser.switch_to.active_element.get_attribute("id") == "sort-size"


@pytest.mark.exhaustive
def test_the_list_is_used_by_keyboard_alone(browser, site):
    browser.get(f"{site.url}/ui")

    press(browser, Keys.TAB, Keys.ENTER)  # to the content
    assert browser.execute_script("return document.activeElement.id") == "main"
    press(browser, "/", "ubuntu-01")
    wait_for(browser, "return document.querySelectorAll('tbody tr').length === 1")
    for _ in range(20):
        press(browser, Keys.TAB)
        if browser.switch_to.active_element.text == "ubuntu-01":
            break
    press(browser, Keys.ENTER)

    wait_for(browser, "return document.querySelector('h1').textContent.includes('ubuntu-01')")


@pytest.mark.exhaustive
def test_a_menu_opens_and_closes_by_keyboard(browser, site):
    browser.get(f"{site.url}/ui")
    browser.execute_script("document.getElementById('chip-status').focus()")

    press(browser, Keys.ENTER)
    is_open = browser.execute_script("return document.querySelector('details.chip').open")
    press(browser, Keys.ESCAPE)

    assert is_open
    assert browser.execute_script("return document.querySelector('details.chip').open") is False
    assert browser.switch_to.active_element.get_attribute("id") == "chip-status"


def test_an_image_lives_through_its_forms(browser, site):
    browser.get(f"{site.url}/ui/images/new")
    for field, text in {"name": "made here", "size": "5", "checksum": "ab"}.items():
        browser.find_element(By.ID, field).send_keys(text)
    rows = browser.find_elements(By.CSS_SELECTOR, ".pair")
    click(browser, "[data-more]")
    assert len(browser.find_elements(By.CSS_SELECTOR, ".pair")) == len(rows) + 1
    browser.switch_to.active_element.send_keys("os_distro", Keys.TAB, "alpine", Keys.ENTER)
    wait_for(browser, "return document.querySelector('.notice')?.textContent.includes('registered')")
    image_id = browser.current_url.rpartition("/")[2]

    browser.find_element(By.LINK_TEXT, "Edit").click()
    browser.find_element(By.ID, "size").send_keys("x", Keys.ENTER)
    wait_for(browser, "return document.getElementById('size-wrong')")
    assert browser.find_element(By.ID, "size").get_attribute("value") == "5x"
    assert "notice bad" in browser.execute_script("return document.activeElement.className")
    assert violations(browser) == []
    browser.find_element(By.ID, "size").clear()
    browser.find_element(By.ID, "size").send_keys("6", Keys.ENTER)
    wait_for(browser, "return document.querySelector('.notice')?.textContent.includes('changed')")

    browser.find_element(By.ID, "member_id").send_keys("initech", Keys.ENTER)
    wait_for(browser, "return document.querySelector('.members')?.textContent.includes('initech')")
    click(browser, "form[action$='/protect'] button")
    wait_for(browser, "return document.querySelector('.notice').textContent.includes('protected')")
    click(browser, "form[action$='/protect'] button")
    wait_for(browser, "return document.querySelector('.notice').textContent.includes('no longer')")
    browser.find_element(By.LINK_TEXT, "Delete …").click()
    click(browser, "button.danger")
    wait_for(browser, "return document.querySelector('.notice')?.textContent.includes('deleted')")

    _, _, answer = site.request("GET", f"/images/{image_id}")
    image = answer["image"]
    assert (image["name"], image["size"], image["properties"]) == ("made here", 6, {"os_distro": "alpine"})
    assert image["deleted"] is True
    assert [entry for entry in console(browser) if "400 (BAD REQUEST)" not in entry] == []


@pytest.mark.exhaustive
def test_a_deletion_is_undone(browser, site):
    image = site.images[3]
    browser.get(f"{site.url}/ui/images/{image['id']}/delete")
    click(browser, "button.danger")

    click(browser, ".notice button")

    wait_for(browser, "return document.querySelector('.notice')?.textContent.includes('is restored')")
    assert site.request("GET", f"/images/{image['id']}")[2]["image"]["deleted"] is False


@pytest.mark.exhaustive
def test_a_clash_is_shown_and_decided(browser, site):
    image = site.images[3]
    browser.get(f"{site.url}/ui/images/{image['id']}/edit")
    site.request("PUT", f"/images/{image['id']}", {"image": {"name": "theirs", "size": 9}})

    browser.find_element(By.ID, "name").send_keys("-mine", Keys.ENTER)
    wait_for(browser, "return document.querySelector('table.clash')")
    assert violations(browser) == []
    assert overflow(browser) == 0
    click(browser, ".actions button")

    wait_for(browser, "return document.querySelector('.notice')")
    changed = site.request("GET", f"/images/{image['id']}")[2]["image"]
    assert (changed["name"], changed["size"]) == ("debian-03-mine", 9)


@pytest.mark.exhaustive
def test_ids_and_lines_are_copied(browser, site):
    image = site.images[3]
    origin = {"origin": site.url, "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    browser.execute_cdp_cmd("Browser.grantPermissions", origin)
    browser.get(f"{site.url}/ui/images/{image['id']}")

    click(browser, "dd .copy")

    wait_for(browser, "return document.querySelector('dd .copy').textContent === 'Copied'")
    assert browser.execute_async_script("navigator.clipboard.readText().then(arguments[0])") == image["id"]


def test_all_of_it_works_without_javascript(scripts_off, site):
    browser = scripts_off
    browser.get(f"{site.url}/ui")

    browser.find_element(By.ID, "q").send_keys("debian-03", Keys.ENTER)
    until(browser, lambda: names(browser) == ["debian-03"])
    browser.find_element(By.CSS_SELECTOR, "tbody th.name > a").click()
    until(browser, lambda: browser.find_element(By.LINK_TEXT, "Edit")).click()
    until(browser, lambda: browser.find_element(By.ID, "name")).send_keys("-edited")
    rows = len(browser.find_elements(By.CSS_SELECTOR, ".pair"))
    browser.find_element(By.CSS_SELECTOR, "[data-more]").click()
    until(browser, lambda: len(browser.find_elements(By.CSS_SELECTOR, ".pair")) > rows)
    browser.find_element(By.ID, "name").send_keys("-twice", Keys.ENTER)
    until(browser, lambda: "debian-03-edited-twice is changed" in notice(browser))
    browser.find_element(By.LINK_TEXT, "Delete …").click()
    until(browser, lambda: browser.find_element(By.CSS_SELECTOR, "button.danger")).click()
    until(browser, lambda: "is deleted" in notice(browser))
    browser.find_element(By.ID, "chip-status").click()
    until(browser, lambda: browser.find_element(By.LINK_TEXT, "saving")).click()
    until(browser, lambda: names(browser) == ["ubuntu-07"])
    browser.find_element(By.LINK_TEXT, "Dashboard").click()
    until(browser, lambda: browser.find_element(By.CSS_SELECTOR, ".tiles dd").text == "59")


def until(browser, condition):
    """What ``condition`` returns once that is true, asked again while a page gives way to the next."""
    passing = (NoSuchElementException, StaleElementReferenceException)
    return WebDriverWait(browser, 60, 0.05, passing).until(lambda _: condition())


def notice(browser):
    return browser.find_element(By.CSS_SELECTOR, ".notice").text


@pytest.mark.exhaustive
def test_signing_in_and_out_with_a_token(browser, start_server, database_path):
    server = start_server(auth__flavor="token")
    browser.get(f"{server.url}/ui/dashboard")
    text = token_of(database_path)

    browser.find_element(By.ID, "token").send_keys("registry_wrong", Keys.ENTER)
    wait_for(browser, "return document.querySelector('.notice.bad')")
    browser.find_element(By.ID, "token").send_keys(text, Keys.ENTER)
    wait_for(browser, "return location.pathname === '/ui/dashboard'")
    cookie = browser.execute_script("return document.cookie")
    caller = browser.find_element(By.CSS_SELECTOR, ".caller").text
    click(browser, ".who button")
    wait_for(browser, "return location.pathname === '/ui/signin'")
    browser.back()

    wait_for(browser, "return location.pathname === '/ui/signin'")
    assert (caller, cookie) == ("acme", "")
    assert text not in browser.page_source


def token_of(database_path):
    """A token made beside the running server."""
    from conftest import environment

    from config import read_settings

    engine.open_database(read_settings(environment(database_path)).database)
    try:
        return auth.create_token("acme", ["member"])[1]
    finally:
        engine.database.close()


@pytest.mark.exhaustive
def test_the_policy_is_kept_and_would_stop_a_script(browser, site):
    browser.get(f"{site.url}/ui")

    browser.execute_script(
        "const script = document.createElement('script'); script.textContent = 'window.hacked = 1';"
        "document.body.append(script);"
    )

    assert browser.execute_script("return window.hacked") is None
    assert any("Content Security Policy" in entry for entry in console(browser))


def offline(browser, is_offline, latency=0):
    browser.execute_cdp_cmd("Network.enable", {})
    speed = {"offline": is_offline, "latency": latency, "downloadThroughput": -1, "uploadThroughput": -1}
    browser.execute_cdp_cmd("Network.emulateNetworkConditions", speed)


def focused(browser):
    return browser.execute_script("return document.activeElement.id")


@pytest.mark.exhaustive
@pytest.mark.parametrize("browser", ["wide"], indirect=True)
def test_a_search_says_that_it_takes_a_while_and_that_it_failed(browser, site):
    browser.get(f"{site.url}/ui")
    said = "return document.getElementById('progress').textContent"

    try:
        offline(browser, False, latency=1500)
        browser.find_element(By.ID, "q").send_keys("debian")
        wait_for(browser, f"{said}.includes('Loading')")
        wait_for(browser, f"{said} === '' && location.search === '?q=debian'")
        offline(browser, True)
        browser.find_element(By.ID, "q").send_keys("-03")
        wait_for(browser, f"{said}.includes('could not be reached')")
        rows = names(browser)
    finally:
        offline(browser, False)
    browser.find_element(By.ID, "q").send_keys(Keys.ENTER)

    wait_for(browser, f"{said} === '' && location.search === '?q=debian-03'")
    assert (len(rows), names(browser)) == (20, ["debian-03"])


@pytest.mark.exhaustive
def test_a_search_typed_in_parts_is_one_step_of_the_history(browser, site):
    browser.get(f"{site.url}/ui/images?status=active")

    for part, address in (("deb", "deb"), ("ian", "debian"), ("-03", "debian-03")):
        browser.find_element(By.ID, "q").send_keys(part)
        wait_for(browser, f"return location.search === '?q={address}&status=active'")
    browser.back()

    wait_for(browser, "return location.search === '?status=active' && document.querySelectorAll('tbody tr').length > 1")


@pytest.mark.exhaustive
def test_a_filter_is_set_and_taken_away_by_keyboard_in_its_place(browser, site):
    browser.get(f"{site.url}/ui")
    browser.execute_script("window.same = true; document.getElementById('chip-visibility').focus()")

    press(browser, Keys.ENTER, Keys.TAB, Keys.ENTER)
    wait_for(browser, "return location.search === '?visibility=public'")
    wait_for(browser, "return document.querySelector('.chosen #chip-visibility')")
    after_set = focused(browser)
    press(browser, Keys.TAB, Keys.ENTER)
    wait_for(browser, "return location.search === '' && !document.querySelector('.chosen')")
    after_unset = focused(browser)
    press(browser, Keys.TAB, Keys.ENTER, Keys.TAB)
    browser.switch_to.active_element.send_keys("acme", Keys.ENTER)
    wait_for(browser, "return location.search === '?owner=acme'")
    wait_for(browser, "return document.querySelector('.chosen #chip-owner')")

    assert [after_set, after_unset, focused(browser)] == ["chip-visibility", "chip-visibility", "chip-owner"]
    assert browser.execute_script("return window.same && !document.querySelector('details.chip[open]')")
    assert console(browser) == []


@pytest.mark.exhaustive
def test_a_menu_closes_when_the_focus_leaves_it(browser, site):
    browser.get(f"{site.url}/ui")
    browser.execute_script("document.getElementById('chip-visibility').focus()")

    press(browser, Keys.ENTER, Keys.TAB, Keys.TAB)
    is_open = browser.execute_script("return document.querySelector('details.chip[open]') !== null")
    press(browser, Keys.TAB)

    assert is_open
    assert browser.execute_script("return document.querySelector('details.chip[open]')") is None


@pytest.mark.exhaustive
def test_the_way_back_from_an_image_and_its_deletion_is_to_the_view_it_was_in(browser, site):
    browser.get(f"{site.url}/ui/images?q=debian&sort_key=name&sort_dir=asc&limit=5")
    click(browser, "#next")
    wait_for(browser, "return location.search.includes('marker=')")
    address, rows = browser.current_url, names(browser)

    browser.find_element(By.LINK_TEXT, rows[2]).click()
    wait_for(browser, "return document.querySelector('h1').textContent.includes('debian')")
    browser.find_element(By.LINK_TEXT, "← Images").click()
    wait_for(browser, "return location.search.includes('marker=') && document.querySelector('tbody')")
    there = browser.current_url, names(browser)
    browser.find_element(By.LINK_TEXT, rows[2]).click()
    browser.find_element(By.LINK_TEXT, "Delete …").click()
    wait_for(browser, "return document.querySelector('button.danger')")
    click(browser, "button.danger")
    wait_for(browser, "return document.querySelector('.notice')?.textContent.includes('deleted')")

    assert there == (address, rows)
    assert browser.current_url == address
    assert names(browser)[:4] == [*rows[:2], *rows[3:]]


@pytest.mark.exhaustive
def test_long_owners_and_systems_do_not_widen_the_list_and_the_dashboard(browser, start_server):
    server, long = start_server(), "o" * 255
    fields = {"owner": long, "name": long, "properties": {"os_distro": long}, "protected": True}
    server.request("POST", "/images", {"image": {**IMAGE, **fields}})

    found = {}
    for place in ("/ui/images", "/ui/dashboard"):
        browser.get(f"{server.url}{place}")
        found[place] = overflow(browser)

    assert found == dict.fromkeys(found, 0)
