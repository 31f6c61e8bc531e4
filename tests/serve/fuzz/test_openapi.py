"""The server keeps what its OpenAPI document says, whatever is sent: never a 500, never silence."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, CheckContext, GenerationMode, Response
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from exitkit.serve import server
from exitkit.serve.limits import Limits
from exitkit.serve.metrics import Metrics
from exitkit.serve.models import Models
from exitkit.serve.settings import Settings
from exitkit.serve.web import app


def no_bug(context: CheckContext, response: Response, case: Case) -> None:
    """Raise over a 500; 503 and 504 are answers that the document names."""
    assert response.status_code != 500, response.text


CHECKS = [
    no_bug,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
SECONDS = 20


def described() -> dict[str, Any]:
    """Return the document of a server; it is the same for all models."""
    models = Models((), dict, lambda folder: None, Limits(), Metrics())  # type: ignore[arg-type, return-value]
    return app.create(models, Settings((Path(),))).openapi()


SCHEMA = schemathesis.openapi.from_dict(described())
OPERATIONS = {found.ok().label: found.ok() for found in SCHEMA.get_all_operations()}
# What has no body and no query can hardly be asked for wrongly.
CASES = [(label, GenerationMode.POSITIVE) for label in OPERATIONS] + [
    (label, GenerationMode.NEGATIVE) for label in OPERATIONS if label.startswith("POST")
]


@pytest.fixture(scope="module")
def address(colours: Path) -> Iterator[str]:
    """Serve in this module alone: what is sent here may unload models."""
    with server(colours, threads=1) as url:
        yield url


@pytest.mark.parametrize(("label", "mode"), CASES)
def test_every_route_keeps_its_description(label: str, mode: GenerationMode, address: str) -> None:
    """`positive` sends what the document allows, `negative` what it forbids."""

    @settings(
        max_examples=25,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=OPERATIONS[label].as_strategy(generation_mode=mode))
    def sends(case: Case) -> None:
        case.call_and_validate(base_url=address, checks=CHECKS, timeout=SECONDS)

    sends()
    if not httpx.get(f"{address}/v2/models/colours/ready").is_success:  # it was unloaded
        httpx.post(f"{address}/v2/repository/models/colours/load").raise_for_status()


def test_the_document_is_the_servers_own(address: str) -> None:
    assert httpx.get(f"{address}/openapi.json").json() == described()
