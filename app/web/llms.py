"""`/llms.txt`: what an agent that comes upon the service should know of it, in a page of Markdown (llmstxt.org)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.responses import PlainTextResponse

PAGE = """# Secateur

> Structured pruning of large language models as a job service: blocks that matter least are removed, quality is
> recovered by light training, and the result is measured against the original. The pruned checkpoint loads in
> transformers, vLLM and llama.cpp as it is.

A job is JSON. `model` and `pruning` are required, all else has defaults:

```json
EXAMPLE
```

1. `POST /estimates` with the spec: it is checked as a submission is, and the answer says what the job will take.
   Nothing is queued.
2. `POST /jobs` with the same body. The header `Idempotency-Key` makes a repeated request give the same job.
3. `GET /jobs/{id}` until `state` is `succeeded`, `failed` or `cancelled`, or `GET /jobs/{id}/events`, a stream.
   Jobs take minutes to hours.
4. `GET /jobs/{id}/report` with `Accept: text/markdown` or `application/json`. `verdict` is `passed` or `failed`
   by the job's gates, and `none`, which is no pass, where it has none.
5. `GET /jobs/{id}/artifacts` lists the files, the checkpoint among them.

Where the service has keys, a request carries one: `Authorization: Bearer KEY`. An error is a problem object (RFC
9457): each entry of `errors` names the field by a JSON pointer, its value and what is expected.

## Reference

- [OpenAPI document](openapi.json): every endpoint, field and default, with examples
- [Catalogue](catalog): criteria, ways to prune, recoveries, quantisations, presets and model families that there are
- [The API on a page](docs): to read and try

## Optional

- As tools by the Model Context Protocol: `secateur mcp`, of the client with its extra `mcp`
- On a command line: `secateur submit org/name --blocks 6`, `secateur gate JOB`, `secateur report JOB`
"""


def mount(app: FastAPI, *, example: Mapping[str, Any]) -> None:
    """Serve the page, with `example` as what a job may be."""
    page = PAGE.replace("EXAMPLE", json.dumps(example, indent=2))
    router = APIRouter(include_in_schema=False)

    @router.get("/llms.txt")
    def llms() -> PlainTextResponse:
        """The page, for anybody."""
        return PlainTextResponse(page, media_type="text/markdown; charset=utf-8")

    app.include_router(router)
