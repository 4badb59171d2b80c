"""Hooks of mkdocs: pages of the API, one a folder of the packages, and links that leave docs/ as text."""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

REPOSITORY = Path(__file__).parents[1]
PACKAGES = ("vexkd_model", "vexkd_ros")
LINK = re.compile(r"\[([^\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each folder that holds modules."""
    folders = sorted({path.parent for package in PACKAGES for path in (REPOSITORY / package).rglob("*.py")})
    for folder in folders:
        name = ".".join(folder.relative_to(REPOSITORY).parts)
        modules = [path.stem for path in sorted(folder.glob("*.py")) if not path.stem.startswith("__")]
        blocks = [f"::: {name}.{module}\n" for module in modules]
        if blocks:
            content = "\n".join([f"# {name}\n", *blocks])
            files.append(File.generated(config, f"api/{name}.md", content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links to files outside docs/ into their names: the site has no repository to point into."""
    folder = posixpath.dirname(page.file.src_uri)

    def kept_or_named(match: re.Match) -> str:
        text, target = match[1], match[2]
        if re.match(r"https?:|mailto:", target):
            return match[0]
        path = posixpath.normpath(posixpath.join(folder, target))
        if path.startswith("..") or path.startswith("results/runs"):
            return f"{text} (`{path.removeprefix('../')}`)" if path.removeprefix("../") not in text else text
        return match[0]

    return LINK.sub(kept_or_named, markdown)
