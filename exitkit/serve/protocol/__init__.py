"""The Open Inference Protocol v2 without a transport: what requests and answers are made of.

`records` are what travels, `datatypes` turns tensors into bytes or JSON and back, `http` reads and
writes whole HTTP bodies, `describe` says what a model takes and gives.
Source: kserve/open-inference-protocol, specification/protocol, and Triton's extensions of it.
"""
