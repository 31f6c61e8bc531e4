"""Which rows of which requests run next: one engine thread before one queue per stage, no HTTP.

`scheduler` has the thread, the futures and the failures; `queues`, `rules` and `stages` decide,
with neither thread nor clock; `batches` runs what they chose; `requests` are what waits; `simulate`
plays the same decisions on a simulated clock.
"""
