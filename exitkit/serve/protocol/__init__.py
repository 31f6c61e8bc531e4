"""The Open Inference Protocol v2 without a transport: what requests and answers are made of.

`records` are what travels, `datatypes` turns tensors into bytes or JSON and back, `outputs` makes
those of an answer, `describe` says what a model takes and gives, `statistics` what it has done.
Source: kserve/open-inference-protocol, specification/protocol, and Triton's extensions of it.
"""
