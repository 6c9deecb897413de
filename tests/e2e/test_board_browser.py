"""The dashboard in a real browser: live, by keyboard, for everybody's eyes, and under its policy.

Needs Chromium (Debian's `chromium`) and Playwright; where one is missing these tests are skipped.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hooks.board.panels import PAGES
from tests.support.house import House
from tests.support.proxy import wait_until

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

pytestmark = pytest.mark.timeout(240)

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
PATHS = tuple(f"/farebox/{'board/' if it.path else ''}{it.path}" for it in PAGES)
SHOTS = os.environ.get("FAREBOX_TEST_SHOTS")
"""A folder for pictures of the pages, for whoever wants to look at them."""

_FOLDER = Path(__file__).resolve().parents[1] / "support"
POOR_CONTRAST = (_FOLDER / "contrast.js").read_text("utf-8")
FAULTS = (_FOLDER / "faults.js").read_text("utf-8")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("no chromium: Debian's package `chromium` has one")
    with playwright.sync_playwright() as running:
        started = running.chromium.launch(executable_path=path, args=list(FLAGS))
        yield started
        started.close()


class Seen:
    """A page, and what it asked for, said and did."""

    def __init__(self, house: House, context: BrowserContext) -> None:
        self.base = house.proxy.base_url
        self.context = context
        self.page: Page = context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda it: self.said.append(it.text))
        self.page.on("pageerror", lambda it: self.said.append(str(it)))
        self.page.on("request", lambda it: self.asked.append(it.url))

    def log_in(self, key: str, path: str = "/farebox/") -> None:
        self.page.goto(self.base + path)
        self.page.keyboard.type(key)
        self.page.keyboard.press("Enter")
        self.page.wait_for_selector("nav")
        self.said.clear()

    def go(self, path: str) -> None:
        self.page.goto(self.base + path)

    def shoot(self, name: str) -> None:
        if SHOTS:
            self.page.screenshot(path=Path(SHOTS) / f"{name}.png", full_page=True)


@pytest.fixture(scope="module")
def admin_key(house: House) -> str:
    """An admin's key; and something to see on each page."""
    caller = house.make_key("browser-caller", team="asking", user="browser-caller")
    house.proxy.chat("Fix this typo: teh", key=caller, model="FAST")
    house.proxy.chat("Fix this typo: teh", key=house.make_key("browser-other"))
    return house.make_key("browser-admin", role="admin", user="browser-admin")


@pytest.fixture
def open_page(house: House, browser: Browser) -> Iterator[Any]:
    contexts: list[BrowserContext] = []

    def opened(**options: Any) -> Seen:
        context = browser.new_context(**options)
        context.set_default_timeout(20_000)
        contexts.append(context)
        return Seen(house, context)

    yield opened
    for it in contexts:
        it.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_can_be_read_by_everybody(open_page: Any, admin_key: str, scheme: str) -> None:
    seen = open_page(viewport=DESKTOP, color_scheme=scheme)
    seen.go("/farebox/")
    assert seen.page.evaluate(POOR_CONTRAST) == []
    seen.log_in(admin_key)
    for path in PATHS:
        seen.go(path)
        seen.page.evaluate("document.querySelectorAll('details').forEach(it => it.open = true)")
        assert seen.page.evaluate(POOR_CONTRAST) == [], path
        assert seen.page.evaluate(FAULTS) == [], path
        seen.shoot(f"{scheme}{path.replace('/', '-')}")
    # Nothing broke the page's own policy, and nobody else was asked for anything.
    assert seen.said == []
    assert {it for it in seen.asked if not it.startswith(seen.base)} == set()


def test_on_a_phone_nothing_is_wider_than_the_screen(open_page: Any, admin_key: str) -> None:
    seen = open_page(viewport=PHONE, has_touch=True, is_mobile=True)
    seen.log_in(admin_key)
    for path in PATHS:
        seen.go(path)
        wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert seen.page.evaluate(wide) == 0, path
        small = seen.page.evaluate(
            "[...document.querySelectorAll('button, select, nav a')].filter(it => "
            "it.checkVisibility() && it.getBoundingClientRect().height < 36).length"
        )
        assert small == 0, path
        seen.shoot(f"phone{path.replace('/', '-')}")


def test_by_keyboard_alone_a_ticket_is_answered(
    house: House, open_page: Any, admin_key: str
) -> None:
    caller = house.make_key("browser-keys", team="asking", user="browser-keys")
    answer = house.proxy.chat("Fix this typo: teh", key=caller, model="FAST")
    approval_id = answer.json()["error"]["farebox"]["approval_id"]
    # Without scripts, too: the page is plain HTML then.
    seen = open_page(viewport=DESKTOP, java_script_enabled=False)
    seen.log_in(admin_key)
    page = seen.page
    page.keyboard.press("Tab")
    focused = page.locator(":focus")
    assert focused.inner_text() == "Skip to the content" and focused.is_visible()
    order = []
    for _ in range(7):
        page.keyboard.press("Tab")
        order.append(page.locator(":focus").inner_text())
    assert order[1:] == [it.title for it in PAGES]
    wait_until(
        lambda: (seen.go("/farebox/board/approvals"), page.locator(f"#{approval_id}").count())[1],
        what="the ticket is shown",
    )
    page.focus(f"#reason-{approval_id}")
    page.keyboard.type("release day")
    for _ in range(4):
        page.keyboard.press("Tab")
    assert page.locator(":focus").inner_text().startswith("Approve")
    page.keyboard.press("Enter")
    page.wait_for_selector("p.said.done")
    found = house.proxy.get(f"/farebox/approvals/{approval_id}").json()["approval"]
    assert (found["state"], found["decided_by"]) == ("approved", "browser-admin")


def test_a_page_renews_itself_but_not_under_the_readers_hands(
    house: House, open_page: Any, admin_key: str
) -> None:
    seen = open_page(viewport=DESKTOP)
    seen.log_in(admin_key, "/farebox/board/approvals")
    page = seen.page
    page.wait_for_selector("#live:not([hidden])")

    def ask(name: str) -> str:
        key = house.make_key(name, team="asking", user=name)
        answer = house.proxy.chat("Fix this typo: teh", key=key, model="FAST")
        return str(answer.json()["error"]["farebox"]["approval_id"])

    first = ask("browser-first")
    page.wait_for_selector(f"#{first}")
    # Said once, for who does not see it come.
    assert "for an answer" in page.locator("#news").inner_text()
    page.fill(f"#reason-{first}", "half a sent")
    second = ask("browser-second")
    page.locator("#live-text", has_text="waits for you").wait_for()
    assert page.locator(f"#{second}").count() == 0
    assert page.input_value(f"#reason-{first}") == "half a sent"
    page.fill(f"#reason-{first}", "")
    page.locator(f"#reason-{first}").blur()
    page.wait_for_selector(f"#{second}")
    assert seen.said == []
