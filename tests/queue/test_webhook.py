"""Which addresses are called, and what they are told."""

from __future__ import annotations

import json

import httpx
import pytest

from hooks.queue_webhook import check_address, tell
from hooks.values import InvalidRequest

ORIGINS = ("https://hooks.example.org", "http://127.0.0.1:9000")


@pytest.mark.parametrize(
    "address",
    [
        "https://hooks.example.org",
        "https://hooks.example.org/farebox?team=a",
        "https://hooks.example.org?x=1",
        "http://127.0.0.1:9000/x",
    ],
)
def test_a_listed_origin_may_be_called(address: str) -> None:
    check_address(address, ORIGINS)


@pytest.mark.parametrize(
    "address",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://hooks.example.org/",
        "https://hooks.example.org.evil.test/",
        "https://hooks.example.org:444/",
        "https://hooks.example.org@evil.test/",
        "https://evil.test/https://hooks.example.org",
        "https://evil.test#https://hooks.example.org",
        "https://user:password@hooks.example.org/",
        "https://hooks.example.org\\@evil.test/",
        "https://HOOKS.example.org/",
        "https://hooks.example.org /",
        "https://hooks.example.org/\r\nHost: evil.test",
        "https://hooks.example.org./",
        "//hooks.example.org/",
        "http://127.0.0.1:90000/",
        "http://127.1:9000/",
        "http://[::1]:9000/",
        "file:///etc/passwd",
        "",
        "https://hооks.example.org/",  # Two of its letters are Cyrillic.
    ],
)
def test_anything_else_is_refused_and_not_repeated(address: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_address(address, ORIGINS)
    assert not address or address not in str(caught.value)


def test_without_a_list_nothing_may_be_called() -> None:
    with pytest.raises(InvalidRequest):
        check_address("https://hooks.example.org/", ())


async def test_a_webhook_that_fails_is_called_again_a_few_times() -> None:
    seen: list[dict[str, str]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(json.loads(request.content))
        return httpx.Response(503 if len(seen) < 3 else 204)

    content = {"queue_id": "q1", "state": "done"}
    arrived = await tell(
        "https://hooks.example.org", content, (0, 0, 0), httpx.MockTransport(answer)
    )
    assert arrived and seen == [content] * 3


async def test_a_redirect_is_not_followed() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(307, headers={"location": "http://169.254.169.254/"})

    arrived = await tell("https://hooks.example.org/x", {}, (0,), httpx.MockTransport(answer))
    assert not arrived and asked == ["https://hooks.example.org/x"] * 2
