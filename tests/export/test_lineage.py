from pathlib import Path

from exitkit.bundle import Manifest
from exitkit.export import lineage
from exitkit.images import ImageSpec
from exitkit.journal import Journal
from exitkit.runs import Run


def test_a_run_knows_the_networks_that_it_had(tmp_path: Path) -> None:
    run = Run(tmp_path / "net-1")
    assert lineage.earlier(run, "now") == ()
    book = Journal(run.journal)
    book.write("prune", network="of the run that was pruned")
    for event, network in (("evaluate", "first"), ("finish", "second"), ("finish", "first")):
        book.write(event, network=network)
    book.write("export", bundle="bundles/net-1")  # older lines name none
    book.write("export", network="now")
    assert lineage.earlier(run, "now") == ("first", "second")


def test_a_bundle_tells_its_runs_networks() -> None:
    image = ImageSpec(8, 8, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))

    def made(**origin: object) -> Manifest:
        return Manifest("net-1", "int8", "", "", ("a",), image, (), 1, {}, origin)

    assert lineage.of(made(weights="now", earlier=["first"])) == ("now", "first")
    assert lineage.of(made(weights="now")) == ("now",)
    assert lineage.of(made()) == ("int8",)
