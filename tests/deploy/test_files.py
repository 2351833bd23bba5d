"""No file of deploy/ is without a test."""

import re
import unittest

from machine import DEPLOY, ROOT, run

# Which modules test each file, or folder. Pages without commands of their own have none; tests/it/released_data.rs
# runs the release script, and tests/it/simulate.rs the scenarios.
TESTS = {
    "README.md": ["test_walkthrough"],
    "capacity.md": [],
    "follow.md": [],
    "several-hubs.md": [],
    "who-sees-whom.md": [],
    "debian/": ["test_debian"],
    "docker/": ["test_image", "test_compose", "compose", "machine"],
    "helm/": ["test_helm"],
    "observability/": ["test_observability"],
    "proxies/": ["test_proxies"],
    "release/": [],
    "scenarios/": [],
    "systemd/": ["test_systemd"],
}


class EveryFile(unittest.TestCase):
    def test_each_file_has_a_test_that_names_it(self):
        files = run("git", "ls-files", "--cached", "--others", "--exclude-standard", "deploy", cwd=ROOT).split()
        for file in files:
            file = file.removeprefix("deploy/")
            with self.subTest(file):
                folder = file.split("/")[0] + "/" if "/" in file else file
                self.assertIn(folder, TESTS, "no test is named for it")
                if not TESTS[folder] or file.startswith("helm/") or file.endswith("README.md"):
                    continue
                texts = [(ROOT / "tests" / "deploy" / f"{name}.py").read_text() for name in TESTS[folder]]
                self.assertIn(file.split("/")[-1], "".join(texts))

    def test_links_between_the_documents_lead_somewhere(self):
        for page in DEPLOY.rglob("*.md"):
            for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", page.read_text()):
                file = (page.parent / target).resolve() if target else page
                with self.subTest(page=page.name, target=target, anchor=anchor):
                    self.assertTrue(file.exists())
                    if anchor:
                        self.assertIn(anchor, anchors(file))


def anchors(page):
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


if __name__ == "__main__":
    unittest.main()
