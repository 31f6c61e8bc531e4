"""Several processes that answer gRPC on one port."""

import signal
from pathlib import Path

import grpc
import httpx
from calling import BLUE, RED, SERVICE, images, output, request
from serving import serving
from waiting import wait_for

from exitkit.serve.rpc.descriptors import CLASSES

ANSWER = CLASSES["ModelInferResponse"].FromString
LINE = 'exitkit_requests_total{route="grpc:ModelInfer",status="200"} '


def ask(place: str) -> str:
    """Ask over a connection of its own; return what names the process that got it."""
    with grpc.insecure_channel(place, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        call = channel.unary_unary(SERVICE + "ModelInfer", response_deserializer=ANSWER)
        body = request(images(RED, BLUE)).SerializeToString()
        answer, ended = call.with_call(body, timeout=60)
        assert output(answer, "exit_index", "<i8") == [2, 4]
        return dict(ended.trailing_metadata())["x-request-id"][:8]


def test_all_workers_answer_and_count_together(colours: Path) -> None:
    with serving(colours, workers=2, grpc_port=0) as running:
        # Whom a connection goes to is the system's choice: that all went to one is not to be seen.
        assert len({ask(running.grpc) for _ in range(40)}) == 2
        wait_for(lambda: f"{LINE}40" in httpx.get(f"{running.url}/metrics").text)
        running.process.send_signal(signal.SIGTERM)
        assert running.end()[-1] == "stopped; everything accepted was answered"
