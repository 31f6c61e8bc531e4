"""A light HTTP load generator, in a process of its own: `python -m load JOB.json`.

Open loop: requests are due by a Poisson or constant process from a seed, whatever the server does,
and latency counts from the moment a request was due, so a server that stalls cannot hide it
(coordinated omission). Closed loop: clients that send again when they are answered. Requests are
encoded beforehand, connections are kept alive, and every answer is compared with the offline
engine's after the load has ended.
"""
