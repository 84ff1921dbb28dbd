"""Serve the explorer, the pages that show the ledger to people: the files of api/explorer, read once.

They are a client of the API like any other. The browser runs no script but these files, makes no markup out of text
(Trusted Types), and asks no other host for anything.
"""

from api.http.docs import Page
from api.resources import EXPLORER
from api.routes import FILES, ROOT

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
HEADERS = {
    "Cache-Control": "no-cache",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
}


def explorer_pages() -> dict[str, Page]:
    """The explorer's files by their paths; `index.html` is the page at the service's address."""
    return {
        ROOT if file.name == "index.html" else f"{FILES}/{file.name}": Page(
            file.read_bytes(), MEDIA_TYPES[file.suffix], HEADERS
        )
        for file in sorted(EXPLORER.iterdir())
    }
