"""Sends the demo's requests with the official SDKs and notes what came back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import openai

from scripts.cli.demo_requests import DemoRequest, Dialect, Outcome
from scripts.cli.errors import Problem
from scripts.cli.http import Proxy, unreachable

TIMEOUT_S = 180.0


class DemoClient:
    """The SDKs, set up for one proxy; safe to use from several threads."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        # Retries are off: a refusal is an answer here. A web proxy of the environment is not asked
        # for a server on this machine.
        self._openai = openai.OpenAI(
            base_url=f"{proxy.url}/v1",
            api_key=proxy.key,
            max_retries=0,
            http_client=openai.DefaultHttpxClient(timeout=TIMEOUT_S, trust_env=not proxy.is_local),
        )
        self._anthropic = _anthropic(proxy)

    @property
    def has_anthropic(self) -> bool:
        """Whether Anthropic's SDK is installed, for the request in its dialect."""
        return self._anthropic is not None

    def send(self, request: DemoRequest) -> Outcome:
        """Send one request and read its whole answer.

        Raises:
            Problem: no proxy answers, or it does not accept the key.
        """
        try:
            headers = self._send(request)
        except openai.APIConnectionError:
            raise unreachable(self._proxy.url) from None
        except openai.APIStatusError as error:
            return self._refused(request, error.status_code, error.response)
        except Exception as error:
            if type(error).__module__.split(".")[0] != "anthropic":
                raise
            response: Any = getattr(error, "response", None)
            if response is None:
                raise unreachable(self._proxy.url) from None
            return self._refused(request, response.status_code, response)
        return Outcome(request, 200, headers)

    def _send(self, request: DemoRequest) -> dict[str, str]:
        extra = {f"x-farebox-{name}": value for name, value in request.steering.items()}
        match request.dialect:
            case Dialect.MESSAGES:
                answer = self._anthropic.messages.with_raw_response.create(
                    model=request.model,
                    max_tokens=request.output_tokens_max or 500,
                    messages=[{"role": "user", "content": request.prompt}],
                    extra_headers=extra,
                )
            case Dialect.RESPONSES:
                answer = self._openai.responses.with_raw_response.create(
                    model=request.model, input=request.prompt, extra_headers=extra
                )
            case _:
                answer = self._chat(request, extra)
        headers = {name.lower(): value for name, value in answer.headers.items()}
        parsed = answer.parse()
        if request.dialect is Dialect.STREAM:
            for _ in parsed:
                pass
        return headers

    def _chat(self, request: DemoRequest, extra: Mapping[str, str]) -> Any:
        options: dict[str, Any] = {}
        if request.output_tokens_max is not None:
            options["max_tokens"] = request.output_tokens_max
        if request.wants_json:
            options["response_format"] = _JSON_FORMAT
        messages = [{"role": "user", "content": request.prompt}]
        if request.system:
            messages.insert(0, {"role": "system", "content": request.system})
        create: Any = self._openai.chat.completions.with_raw_response.create
        return create(
            model=request.model,
            messages=messages,
            stream=request.dialect is Dialect.STREAM,
            extra_headers=extra,
            **options,
        )

    def _refused(self, request: DemoRequest, status: int, response: Any) -> Outcome:
        if status in (401, 403):
            raise Problem(
                f"The proxy at {self._proxy.url} does not accept the key (status {status}).",
                "Set FAREBOX_KEY or give --key-file.",
                kind="key_refused",
            )
        headers = {name.lower(): value for name, value in response.headers.items()}
        code = headers.get("x-farebox-code")
        return Outcome(request, status, headers, code, None if code else _message(response))


_JSON_FORMAT = {
    "type": "json_schema",
    "json_schema": {
        "name": "person",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"name": {"type": "string"}, "city": {"type": "string"}},
            "required": ["name", "city"],
            "additionalProperties": False,
        },
    },
}


def _message(response: Any) -> str:
    try:
        return str(response.json()["error"]["message"])[:300]
    except (ValueError, KeyError, TypeError):
        return f"status {response.status_code}"


def _anthropic(proxy: Proxy) -> Any:
    try:
        import anthropic
    except ImportError:
        return None
    return anthropic.Anthropic(
        base_url=proxy.url,
        api_key=proxy.key,
        max_retries=0,
        http_client=anthropic.DefaultHttpxClient(timeout=TIMEOUT_S, trust_env=not proxy.is_local),
    )
