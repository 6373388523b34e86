"""Masking: every spelling of a secret, at any position of a text, at a bounded cost."""

import base64
import time
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.auth.reply import destination
from exporter.core.model import LABEL_LENGTH, label, name_label
from exporter.core.redaction import MASK, Redactor, register, register_proxy

SECRETS = ["a-token-of-text", "p@ss w/rd%41\"é'", "wJalrXUtnFEMI/K7MDENG+bPxRfi", "x" * 5000]


def redactor(*values: str) -> Redactor:
    result = Redactor()
    for value in values:
        result.register(value)
    return result


SPELLINGS = {
    "plain": str,
    "quoted": quote,
    "quoted with slashes": lambda value: quote(value, safe=""),
    "quoted as in forms": quote_plus,
    "every byte": lambda value: "".join(f"%{byte:02x}" for byte in value.encode()),
    "base64": lambda value: base64.b64encode(value.encode()).decode(),
    "base64 for URLs": lambda value: base64.urlsafe_b64encode(value.encode()).decode(),
    "base64 without padding": lambda value: base64.b64encode(value.encode()).decode().rstrip("="),
}


@pytest.mark.parametrize("secret", SECRETS, ids=["text", "signs", "key", "long"])
@pytest.mark.parametrize("spell", SPELLINGS.values(), ids=SPELLINGS)
def test_every_spelling_is_masked(secret, spell):
    masker = redactor(*SECRETS)
    assert masker.redact(spell(secret)) == MASK
    assert masker.redact(f"before {spell(secret)} after") == f"before {MASK} after"


@pytest.mark.parametrize("before", ["", "u", "us", "user:"])
def test_secret_in_base64_of_a_longer_text_is_masked(before):
    """At most a few bits of the secret remain."""
    for secret in SECRETS:
        text = redactor(secret).redact(base64.b64encode(f"{before}{secret}!".encode()).decode())
        assert MASK in text
        assert len(text) < len(MASK) + len(before) * 2 + 8


@given(st.text(min_size=8, max_size=40), st.text(max_size=30), st.text(max_size=30))
def test_no_text_shows_a_secret(secret, before, after):
    shown = redactor(secret).redact(f"{before}{secret}{after}")
    assert secret not in shown.replace(MASK, "\0")


@given(
    st.text(alphabet="ab", min_size=8, max_size=12), st.text(alphabet="ab", max_size=40), st.integers(1, 40)
)
def test_cut_leaves_no_part_of_a_secret(secret, before, length):
    """A cut text is a prefix of the whole masked text."""
    masker = redactor(secret)
    text = f"{before}{secret}{before}"
    assert masker.redact(text).startswith(masker.redact(text, length))


def test_short_secret_is_masked_only_as_the_whole_text():
    masker = redactor("geheim7")
    for whole in ("geheim7", quote("geheim7"), "%67eheim7", base64.b64encode(b"geheim7").decode()):
        assert masker.redact(whole) == MASK
    assert masker.redact("not geheim7 alone") == "not geheim7 alone"


def test_number_of_registered_secrets_is_bounded():
    """Secrets in use stay registered."""
    masker = redactor("used-all-the-time")
    for number in range(4500):
        masker.register(f"rotated-secret-{number:06}")
        masker.register("used-all-the-time")
    assert masker.redact("used-all-the-time") == masker.redact("rotated-secret-004499") == MASK
    assert masker.redact("rotated-secret-000000") == "rotated-secret-000000"


def test_cost_of_a_cut_does_not_depend_on_the_text():
    masker = redactor(*SECRETS)
    text = "signature=0 \x1b canonical é " * 400_000
    before = time.process_time()
    for _ in range(10):
        masker.printable(text, 300)
        masker.redact(text, 300)
    assert time.process_time() - before < 0.7


def test_secret_with_line_end_for_a_blank_is_masked():
    masker = redactor("pass word/é+81")
    assert masker.printable("x pass\nword/é+81\r\n", 300) == f"x {MASK}"
    assert masker.printable("pass word/é+81" * 50, 20) == f"{MASK * 3}"[:20] + "…"


def test_labels_and_hosts_are_masked():
    assert name_label("TOKEN-of-the-Process") == "TOKEN-of-the-Process"
    register("TOKEN-of-the-Process")
    assert name_label("TOKEN-of-the-Process") == MASK
    assert label("b" * 250 + "TOKEN-of-the-Process") == "b" * 250 + MASK[: LABEL_LENGTH - 250]
    assert destination({"location": "http://TOKEN-of-the-Process/x"}) == MASK


def test_credentials_of_a_proxy_are_masked():
    register_proxy("proxy-user:pass%40word@proxy.example.com:3128")
    register_proxy("http://only-a-user@proxy.example.com")
    register_proxy("http://proxy.example.com")
    for secret in ("pass%40word", "pass@word", "proxy-user:pass@word", "only-a-user"):
        assert name_label(f"x {secret}") == f"x {MASK}"
        assert name_label(base64.b64encode(secret.encode()).decode()) == MASK
    assert name_label("proxy-user at proxy.example.com") == "proxy-user at proxy.example.com"
