"""gRPC with the certificate of HTTPS."""

from pathlib import Path

import grpc
import pytest
from calling import RED, images, serve, tensor, unary
from certificates import make
from tritonclient.grpc import InferenceServerClient

from exitkit.serve.rpc.descriptors import CLASSES


def test_it_answers_over_tls_and_not_without(colours: Path, tmp_path: Path) -> None:
    certificate, key = make(tmp_path / "tls")
    trusted = grpc.ssl_channel_credentials(certificate.read_bytes())
    live = CLASSES["ServerLiveRequest"]()
    with serve(colours, certificate=certificate, key=key) as both:
        assert both.http.startswith("https://")
        with grpc.secure_channel(both.grpc, trusted) as channel:
            assert unary(channel, "ServerLive", live).live
        ssl = {"ssl": True, "root_certificates": str(certificate)}
        with InferenceServerClient(both.grpc, **ssl) as client:
            answer = client.infer("colours", [tensor(images(RED))])
            assert answer.as_numpy("label").tolist() == [b"red"]
        for channel in (
            grpc.insecure_channel(both.grpc),
            grpc.secure_channel(both.grpc, grpc.ssl_channel_credentials()),
        ):
            with channel, pytest.raises(grpc.RpcError) as caught:
                unary(channel, "ServerLive", live)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
