"""A plain FastAPI server: one image file in, one run of the session, one label out.

    python -m rivals.fastapi_server BUNDLE PORT

The session runs on the event loop: with one core a thread pool only adds its switches.
"""

import sys
from pathlib import Path

import uvicorn
from fastapi import FastAPI, Request

from rivals.whole import Whole


def create(folder: Path) -> FastAPI:
    """Make the application."""
    network, app = Whole(folder), FastAPI()

    @app.post("/predict")
    async def predict(request: Request) -> dict[str, str]:
        (label,) = network.labels(network.decode(await request.body()))
        return {"label": label}

    @app.get("/health")
    async def health() -> dict[str, bool]:
        return {"ready": True}

    return app


if __name__ == "__main__":
    application = create(Path(sys.argv[1]))
    uvicorn.run(application, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning",
                access_log=False)  # fmt: skip
