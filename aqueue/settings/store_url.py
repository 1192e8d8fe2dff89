"""The URL of a database: what counts as one, and how it is shown. It may hold a password, which is never shown."""

import re

SCHEMES = ("postgresql://", "postgres://")
# As text, because a short command would pay for every pattern that is compiled.
_CONNECTION_STRING = r"(?i)postgres(ql)?:|(.*\s)?(host|hostaddr|user|dbname|service|password)\s*="
_UNAMBIGUOUS = r"(?i)(?:[^\s%]|%[0-9a-f]{2})*"
_PARTS = r"\w+://([^/?#@]*@)?[^/?#@]*([/?#].*)?"
_USER_PASSWORD = r"(?s)(:/+[^/?#@:]*):.*@"
_PARAMETER_PASSWORD = r"(?i)((?:ssl)?password)\s*=\s*('[^']*'|[^&\s]*)&?"


def is_url(store: str) -> bool:
    """Whether `store` is a URL and not a path."""
    return "://" in store


def looks_like_url(store: str) -> bool:
    """Whether somebody who wrote this meant a database, and not a path."""
    return is_url(store) or (bool({"=", ":"} & set(store)) and re.match(_CONNECTION_STRING, store) is not None)


def is_valid(store: str) -> bool:
    """Whether `store` is the URL of a database, and nothing in it can be taken for something else: blanks, `@` and `%`
    are percent-encoded in its user and password. What a driver says of others quotes them."""
    well = re.fullmatch(_UNAMBIGUOUS, store) is not None and re.fullmatch(_PARTS, store) is not None
    return well and store.startswith(SCHEMES)


def redacted(store: str) -> str:
    """`store` without the password that it may hold."""
    if not looks_like_url(store):
        return store
    return re.sub(_PARAMETER_PASSWORD, "", re.sub(_USER_PASSWORD, r"\1@", store)).rstrip("?& ")
