"""Reads the examples in the pages of docs/, so that the tests run what the pages print."""

import re

from hub import ROOT

DOCS = ROOT / "docs"


def files(page):
    """The files that a page prints: their names and texts. The name stands alone above its block: `back-end.mjs`:"""
    found = re.findall(r"^`([^`\n]+)`:\n\n```\w+\n(.*?)^```$", (DOCS / page).read_text(), re.S | re.M)
    return dict(found)


def blocks(page, language):
    """The blocks of a page in this language, in their order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", (DOCS / page).read_text(), re.S | re.M)


def block(page, language, part):
    """The only block in this language that contains `part`."""
    (found,) = (text for text in blocks(page, language) if part in text)
    return found
