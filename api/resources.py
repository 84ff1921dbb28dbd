"""Where the SQL, the seeds, the OpenAPI document and the explorer's files are."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
# Installed, the data lies inside the package; in a checkout, beside it.
RESOURCES = PACKAGE if (PACKAGE / "db").is_dir() else PACKAGE.parent

OPENAPI = PACKAGE / "openapi.json"
EXPLORER = PACKAGE / "explorer"
