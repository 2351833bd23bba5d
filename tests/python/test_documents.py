"""The documents: every link leads somewhere, and static/llms.txt names only what there is."""

import json
import os
import pathlib
import re
import unittest

from hub import ROOT, Hub
from test_back_ends import API_KEY, call

FENCE = re.compile(r"^```.*?^```$", re.S | re.M)
LINK = re.compile(r"\]\(([^)\s]+)\)|^\[[^\]]+\]: (\S+)", re.M)


def documents():
    for folder, inner, names in os.walk(ROOT):
        inner[:] = [name for name in inner if name not in ("target", "node_modules") and not name.startswith(".")]
        yield from (pathlib.Path(folder, name) for name in names if name.endswith(".md"))


def anchors(page):
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.M)
    texts = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading) for heading in headings]
    return {re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-") for text in texts}


class Links(unittest.TestCase):
    def test_every_link_leads_to_a_file_and_a_heading(self):
        wrong, count = [], 0
        for page in documents():
            for found in LINK.finditer(FENCE.sub("", page.read_text())):
                link = found.group(1) or found.group(2)
                if re.match(r"\w+:", link):
                    continue
                count += 1
                path, _, anchor = link.partition("#")
                target = (page.parent / path).resolve() if path else page
                if not target.exists() or (anchor and anchor not in anchors(target)):
                    wrong.append(f"{page.relative_to(ROOT)}: {link}")
        self.assertEqual(wrong, [])
        self.assertGreater(count, 100)


class ForMachines(unittest.TestCase):
    def setUp(self):
        self.hub = Hub({"auth.api_keys": json.dumps([API_KEY])})
        self.addCleanup(self.hub.stop)
        self.text = (ROOT / "static/llms.txt").read_text()

    def test_the_hub_serves_it(self):
        status, text, headers = call(self.hub.origin + "/llms.txt")
        self.assertEqual((status, text), (200, self.text))
        self.assertEqual(headers["content-type"], "text/plain; charset=utf-8")

    def test_the_files_that_it_names_exist(self):
        names = re.findall(r"`([\w./-]+\.(?:md|toml|d\.ts))`", self.text)
        self.assertGreater(len(names), 12)
        back_ends = [name if "/" in name or name.endswith(".toml") else f"docs/back-end/{name}" for name in names]
        self.assertEqual([name for name in back_ends if not (ROOT / name).exists()], [])

    def test_the_hub_answers_the_paths_that_it_names(self):
        calls = (ROOT / "src/http/README.md").read_text()
        described = json.loads(call(self.hub.origin + "/openapi.json")[1])["paths"]
        named = re.findall(r"`(?:(GET|POST|PUT) )?(/[\w/{}.-]+)", self.text)
        self.assertGreater(len(named), 15)
        for method, path in named:
            with self.subTest(path):
                if path.startswith("/v1/"):
                    self.assertIn((method or "get").lower(), described[path])
                elif path.startswith("/dev/"):
                    # Only a hub in development mode has them.
                    self.assertIn(f"| `{method} {path}` |", calls)
                elif path not in ("/v1", "/presence-token"):
                    self.assertIn(call(self.hub.origin + path)[0], (200, 426))


if __name__ == "__main__":
    unittest.main()
