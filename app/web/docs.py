"""The page on which the API can be read and tried, from vendored files: it needs no internet access."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, FastAPI
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

VENDOR = Path(__file__).parent / "vendor"
POLICY = "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'"

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Secateur API</title>
<link rel="icon" href="vendor/swagger-ui/favicon-32x32.png">
<link rel="stylesheet" href="vendor/swagger-ui/swagger-ui.css">
<style>
nav { padding: 0.75rem 1.25rem; font: 0.95rem system-ui, sans-serif; }
nav a { color: #1b6b3a; }
html.dark-mode nav a { color: #7fd6a0; }
</style>
</head>
<body>
<nav aria-label="Secateur"><a href="ui">← Dashboard</a></nav>
<div id="swagger-ui"></div>
<script src="vendor/swagger-ui/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""

START = """const dark = matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", follow);
follow();
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  displayRequestDuration: true,
  tryItOutEnabled: true,
  defaultModelsExpandDepth: 0,
  validatorUrl: null,
});
"""

router = APIRouter(include_in_schema=False)


@router.get("/docs")
def docs() -> HTMLResponse:
    """Swagger UI on this service's own document."""
    return HTMLResponse(PAGE, headers={"Content-Security-Policy": POLICY})


@router.get("/docs/start.js")
def start() -> HTMLResponse:
    """A file of its own, so that the page's policy needs no inline script."""
    return HTMLResponse(START, media_type="text/javascript")


def mount(app: FastAPI) -> None:
    """Serve the page and the vendored files."""
    app.include_router(router)
    app.mount("/vendor", StaticFiles(directory=VENDOR), name="vendor")
