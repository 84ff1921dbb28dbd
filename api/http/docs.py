"""Serve the pages that describe the API: its OpenAPI document, and Swagger UI, which shows it in a browser.

The browser asks no other host for anything, and runs no script but the two that the page names: Swagger UI's, as its
authors published it, and ours.
"""

import asyncio
import gzip
import hashlib
from asyncio import Future
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files

from api.resources import OPENAPI
from api.routes import API, DESCRIPTION, DOCS

VERSION = "5.31.0"
SWAGGER_UI = files("swagger_ui_bundle") / "vendor" / f"swagger-ui-{VERSION}"
# The hashes of the published files. A browser accepts no other content (W3C, Subresource Integrity).
SCRIPT = "sha256-k7ewhiqA4nhvhbVgvnaTwjRDVP+n5+Ik+FClQ0lyTDE="
STYLE = "sha256-nldvgyITLHaUnaR/m7U8iRNzwwPqOnYf9Uj/yd5QqYw="

# Swagger UI has its icons inside its style sheet.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

PAGE = f"""\
<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width">
    <title>Ledger API</title>
    <link rel="icon" href="{DOCS}/{VERSION}/favicon-32x32.png">
    <link rel="stylesheet" href="{DOCS}/{VERSION}/swagger-ui.css" integrity="{STYLE}">
  </head>
  <body>
    <div id="swagger-ui"></div>
    <script src="{DOCS}/{VERSION}/swagger-ui-bundle.js" integrity="{SCRIPT}"></script>
    <script src="{DOCS}/start.js"></script>
  </body>
</html>
"""

# The page above those of the API.
WELCOME = f"""\
<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width">
    <title>Ledger</title>
    <link rel="icon" href="{DOCS}/{VERSION}/favicon-32x32.png">
  </head>
  <body>
    <h1>Ledger</h1>
    <p>A RESTful ledger service that can transact with multiple participants.</p>
    <p><a href="{DOCS}">The API in a browser</a>, and its <a href="{DESCRIPTION}">description in OpenAPI</a>.</p>
  </body>
</html>
"""

START = f"""\
SwaggerUIBundle({{
  url: "{DESCRIPTION}",
  dom_id: "#swagger-ui",
  deepLinking: true,
  displayRequestDuration: true,
  validatorUrl: null,
}});
"""


@dataclass(frozen=True)
class Page:
    """The answer to a GET of one path."""

    content: bytes
    media_type: str
    headers: Mapping[str, str]

    @cached_property
    def tag(self) -> str:
        """The entity tag, weak because it is the same with and without compression (RFC 9110, 8.8.3)."""
        return f'W/"{hashlib.sha256(self.content).hexdigest()[:32]}"'

    @cached_property
    def compression(self) -> Future[bytes | None]:
        """Compress the content, in a thread: a start need not wait for it, and nor do the requests of others."""
        return asyncio.get_running_loop().run_in_executor(None, self.compress)

    async def compressed(self) -> bytes | None:
        """The content in gzip, where that is much shorter. It is compressed once, for the first client that asks."""
        return await asyncio.shield(self.compression)

    def compress(self) -> bytes | None:
        compressed = gzip.compress(self.content, mtime=0)
        return compressed if len(compressed) < 0.9 * len(self.content) else None


def pages() -> dict[str, Page]:
    """The pages by their paths."""
    changing = {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
    # The version is in their paths.
    lasting = {"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
    policy = {"Content-Security-Policy": POLICY, "Referrer-Policy": "no-referrer"}

    def published(name: str, media_type: str) -> dict[str, Page]:
        return {f"{DOCS}/{VERSION}/{name}": Page((SWAGGER_UI / name).read_bytes(), media_type, lasting)}

    return {
        API: Page(WELCOME.encode(), "text/html; charset=utf-8", changing | policy),
        DESCRIPTION: Page(OPENAPI.read_bytes(), "application/json", changing),
        DOCS: Page(PAGE.encode(), "text/html; charset=utf-8", changing | policy),
        f"{DOCS}/start.js": Page(START.encode(), "text/javascript; charset=utf-8", changing),
        **published("swagger-ui-bundle.js", "text/javascript; charset=utf-8"),
        **published("swagger-ui.css", "text/css; charset=utf-8"),
        **published("favicon-32x32.png", "image/png"),
    }
