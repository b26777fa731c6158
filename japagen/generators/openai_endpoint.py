"""Where an OpenAI-compatible server is, and with which key it is asked."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from japagen.errors import JapagenError

Api = Literal["chat", "completions"]

OPENAI_URL = "https://api.openai.com/v1"
# The client insists on a key; a server that wants none ignores it.
_NO_KEY = "no-key"
# A shorter one is no secret, and blotting it out would garble messages.
_SHORTEST_SECRET = 4
_LONGEST_REASON = 300


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A model on a server.

    Attributes:
        model: The server's name for it.
        url: The server's address without a trailing slash.
        api: Which of the two APIs is spoken.
        key_variable: The environment variable that the key came from.
        key: The key, or a placeholder; no repr, message or log shows it.
    """

    model: str
    url: str
    api: Api
    key_variable: str
    key: str = field(repr=False)

    @classmethod
    def of(
        cls,
        model: str,
        url: str | None,
        api: Api,
        key_variable: str,
        environment: Mapping[str, str],
    ) -> Endpoint:
        """Checks an address and finds the key for it.

        Raises:
            JapagenError: If the address is not http(s), holds a password, or is not on this
                machine and there is no key.
        """
        url = (url or OPENAI_URL).rstrip("/")
        _check_url(url)
        # A newline from `export KEY="$(cat file)"` would end up inside an HTTP header.
        key = environment.get(key_variable, "").strip()
        if not key.isascii() or not key.isprintable():
            raise JapagenError(
                f"Expected {key_variable} to hold a key in ASCII, found other characters.",
                f"Set it again: export {key_variable}=...",
            )
        endpoint = cls(model, url, api, key_variable, key or _NO_KEY)
        if not key and not endpoint.local:
            raise JapagenError(
                f"Expected the key of {url} in the environment variable {key_variable}, "
                "found none.",
                f"Run: export {key_variable}=... (any word if the server asks for no key).",
            )
        return endpoint

    @property
    def local(self) -> bool:
        """True for an address on this machine."""
        host = urlsplit(self.url).hostname or ""
        if host == "localhost" or host.endswith(".localhost"):
            return True
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False

    @property
    def is_plain(self) -> bool:
        """True for HTTP without encryption."""
        return urlsplit(self.url).scheme == "http"

    @property
    def is_openai(self) -> bool:
        """True for OpenAI's own servers, regional ones included."""
        host = urlsplit(self.url).hostname or ""
        return host == "api.openai.com" or host.endswith(".api.openai.com")

    def clean(self, text: str) -> str:
        """Puts what a server or the client said on one line without the key."""
        if self.key != _NO_KEY and len(self.key) >= _SHORTEST_SECRET:
            text = text.replace(self.key, "***")
        text = " ".join(encodable(text).split())
        return text if len(text) <= _LONGEST_REASON else text[: _LONGEST_REASON - 1] + "…"


def _check_url(url: str) -> None:
    if "@" in url or "?" in url:
        raise JapagenError(
            "Expected base_url without user name, password and query: it is written to reports.",
            "Keep the key in the environment variable that generator.api_key_env names.",
        )
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or url.split() != [url]:
        raise JapagenError(
            f"Expected base_url to be an http(s) address, found '{url}'.",
            "For example generator.base_url: http://127.0.0.1:8080/v1",
        )


def encodable(text: str) -> str:
    """Replaces halves of surrogate pairs, which JSON can carry and no file or database can."""
    return re.sub("[\ud800-\udfff]", "\ufffd", text)
