"""Keys and tokens are kept out of whatever is recorded of an error, and out of log lines.

They come in with the text of exceptions: of providers, of HTTP clients, of validation. Nobody can know all secrets;
this knows those that were given to a model, and what looks like one.
"""

import re

HIDDEN = "[hidden]"
_SHORTEST = 8
"""Characters; a shorter key is none, and hiding it would garble words."""

_given: set[str] = set()

_NAMES = (
    r"api[-_ ]?key(?:[ ]provided)?|access[-_]?key(?:[-_]id)?|private[-_]?key|secret[-_]?key|client[-_]?secret"
    r"|(?:access|auth|refresh|session|bearer|api)[-_]?token|(?:proxy-)?authorization|password|passwd"
)
_VALUE = r"(?:(?:bearer|basic|token)\s+)?(?!\[hidden)[^\s\"',;&)}\]]{4,}"
_SECRETS = re.compile(
    rf"(?P<named>(?:(?:{_NAMES})[\"']?\s*[:=]\s*|(?:token|secret)(?:=|[\"']\s*:\s*))(?:b(?=[\"']))?[\"']?){_VALUE}"
    r"|(?P<bearer>\bbearer\s+)(?!\[hidden)[\w.~+/=-]{8,}"
    r"|(?P<place>://[^\s:/@]{0,200}:)[^\s/@]{1,200}(?=@)"
    r"|\b(?:sk|pk|rk|tvly|gsk|xai)-(?=[\w-]{0,80}\d)[\w-]{12,}"
    r"|\bgh[opsur]_\w{20,}|\bgithub_pat_\w{20,}|\bhf_\w{20,}|\bxox[abeoprs]-[\w-]{10,}"
    r"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bAIza[\w-]{30,}|\beyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]*",
    re.IGNORECASE,
)

_SIGNS = (
    "key", "token", "secret", "authorization", "passw", "bearer", "://", "sk-", "pk-", "rk-", "tvly-", "xai-", "gho_",
    "ghp_", "ghs_", "ghu_", "ghr_", "github_pat_", "hf_", "xox", "akia", "asia", "aiza", "eyj",
)  # fmt: skip
"""One of these is in whatever looks like a secret. Most texts have none, and to look for them costs a tenth of the
expression, which is asked again whenever a failure is read."""


def keep_secret(value: str | None) -> None:
    """Hide this value, too, wherever this process says something."""
    if value is not None and len(value) >= _SHORTEST:
        _given.add(value)


def redacted(text: str) -> str:
    """The text with every secret replaced that is known or looks like one."""
    for value in _given:
        text = text.replace(value, HIDDEN)
    low = text.lower()
    if text.isascii() and not any(sign in low for sign in _SIGNS):  # other alphabets have letters that count as these
        return text
    return _SECRETS.sub(_hidden, text)


def _hidden(found: "re.Match[str]") -> str:
    before = next((g for g in (found["named"], found["bearer"], found["place"]) if g is not None), "")
    return f"{before}{HIDDEN}"


def storable(text: str) -> str:
    """What users' code says, without secrets, and without half surrogate pairs, which some file names have: they cannot
    be stored."""
    text = redacted(text)
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
