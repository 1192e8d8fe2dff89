"""The URL of a database: what counts as one, and how it is shown. It may hold a password, which is never shown."""

import re

SCHEMES = ("postgresql://", "postgres://")
_USER_PASSWORD = re.compile(r"(?<=://)([^/?#@:]*):.*@")
_PARAMETER_PASSWORD = re.compile(r"(?<=[?&])((?:ssl)?password=)[^&]*&?", re.IGNORECASE)


def is_url(store: str) -> bool:
    """Whether `store` is a URL and not a path."""
    return "://" in store


def shown(store: str) -> str:
    """`store` without the password that its URL may hold."""
    if not is_url(store):
        return store
    return _PARAMETER_PASSWORD.sub("", _USER_PASSWORD.sub(r"\1@", store)).rstrip("?&")
