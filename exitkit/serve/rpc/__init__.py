"""The gRPC twin of the Open Inference Protocol, on a port of its own.

`messages` is the protocol as a table, `descriptors` makes classes of it; `tensors` reads requests
and writes answers; `calls` has what every call goes through; `methods` and `streams` answer them;
`listener` has the port. Nothing here is imported where the port is off.
"""
