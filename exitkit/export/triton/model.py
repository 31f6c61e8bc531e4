"""Early exit over staged models: Triton's Python backend runs this file as it is.

It joins the rows of the requests that came together, runs the first stage, lets the rows leave
that are sure enough, goes on with the others, and cuts the answers apart again. It needs NumPy
and what the backend brings, nothing of exitkit. Its settings are the `parameters` of config.pbtxt:

    stages                  names of the staged models, shallow to deep, with commas between
    exits, temperatures     one per stage
    thresholds              one per stage but the deepest, for requests that bring none
    stage_max_batch_size    rows that a stage takes at once
"""

import json
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

Floats = NDArray[np.float32]
METRIC = "exitkit_exits_taken_total"
# A threshold belongs in the tensor: a response cache knows requests by their tensors alone, and
# would answer one with what it computed for another threshold.
REFUSED = ("threshold", "thresholds", "max_exit")


class TritonPythonModel:
    """What the backend makes one of per instance, each in a process of its own."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the settings and register the counters."""
        config = json.loads(args["model_config"])
        told = {key: value["string_value"] for key, value in config["parameters"].items()}
        self.stages = _listed(told["stages"])
        self.exits = [int(number) for number in _listed(told["exits"])]
        self.temperatures = [float(number) for number in _listed(told["temperatures"])]
        self.thresholds = np.array(_listed(told["thresholds"]), dtype=np.float64).astype(np.float32)
        self.limit = int(told["stage_max_batch_size"])
        k = len(self.stages)
        if (len(self.exits), len(self.temperatures), len(self.thresholds)) != (k, k, k - 1):
            raise pb_utils.TritonModelException(
                f"{k} stages need {k} exits, {k} temperatures and {k - 1} thresholds"
            )
        outputs = {output["name"]: output for output in config["output"]}
        self.classes = int(outputs["probabilities"]["dims"][0])
        # The family is kept: its counters would vanish with it.
        self.family = pb_utils.MetricFamily(
            name=METRIC,
            description="Images by the exit that answered",
            kind=pb_utils.MetricFamily.COUNTER,
        )
        labels = {"model": args["model_name"], "version": args["model_version"]}
        self.taken = {
            exit: self.family.Metric(labels={**labels, "exit": str(exit)}) for exit in self.exits
        }

    def execute(self, requests: list[Any]) -> list[Any]:  # Any: the backend's own classes
        """Answer requests that came together; each gets its answer or its own error."""
        errors: dict[int, Any] = {}
        asked: dict[int, tuple[Floats, Floats]] = {}
        for place, request in enumerate(requests):
            images = pb_utils.get_input_tensor_by_name(request, "images").as_numpy()
            thresholds = self._thresholds(request, len(images))
            wrong = _wrong(request, thresholds)
            if wrong:
                errors[place] = pb_utils.TritonError(wrong, pb_utils.TritonError.INVALID_ARG)
            else:
                asked[place] = images, thresholds
        answers = self._answer(asked, errors) if asked else {}
        return [
            pb_utils.InferenceResponse(output_tensors=[], error=errors[place])
            if place in errors
            else pb_utils.InferenceResponse(output_tensors=answers[place])
            for place in range(len(requests))
        ]

    def _thresholds(self, request: Any, rows: int) -> Floats:
        """Return the request's own thresholds [n, K-1], or those of the settings."""
        own = pb_utils.get_input_tensor_by_name(request, "thresholds")
        if own is None:
            return np.broadcast_to(self.thresholds, (rows, len(self.thresholds)))
        table: Floats = own.as_numpy()
        return table

    def _answer(
        self, asked: dict[int, tuple[Floats, Floats]], errors: dict[int, Any]
    ) -> dict[int, list[Any]]:
        """Run all rows and return each request's tensors; add what went wrong to `errors`."""
        sizes = [len(images) for images, _ in asked.values()]
        probabilities, confidence, exits = self._decide(
            _joined([images for images, _ in asked.values()]),
            _joined([thresholds for _, thresholds in asked.values()]),
            np.repeat(list(asked), sizes),
            errors,
        )
        answers = {}
        for place, end, size in zip(asked, np.cumsum(sizes), sizes, strict=True):
            own = slice(end - size, end)
            if place in errors:
                continue
            if not (confidence[own] > 0).all():
                errors[place] = pb_utils.TritonError(
                    "the network answered something that is no finite number: are the images?",
                    pb_utils.TritonError.INVALID_ARG,
                )
                continue
            answers[place] = [
                pb_utils.Tensor("probabilities", probabilities[own]),
                pb_utils.Tensor("confidence", confidence[own, None]),
                pb_utils.Tensor("exit", exits[own, None]),
            ]
            self._count(exits[own])
        return answers

    def _decide(
        self,
        hidden: Floats,
        limits: Floats,
        owner: NDArray[np.int64],
        errors: dict[int, Any],
    ) -> tuple[Floats, Floats, NDArray[np.int64]]:
        """Answer every row at the first exit where it is sure enough.

        Args:
            hidden: images [n, 3, H, W].
            limits: thresholds [n, K-1].
            owner: [n], the request that a row belongs to.
            errors: request -> its error; the rows of such a request go no further.

        Returns:
            probabilities [n, C], confidence [n] and exit [n]; without meaning for the rows of
            requests in `errors`.
        """
        probabilities = np.empty((len(owner), self.classes), dtype=np.float32)
        confidence = np.empty(len(owner), dtype=np.float32)
        exits = np.empty(len(owner), dtype=np.int64)
        rows = np.arange(len(owner))
        for position, stage in enumerate(self.stages):
            deepest = position == len(self.stages) - 1
            rows, logits, hidden = self._run(stage, rows, hidden, deepest, owner, errors)
            sure, share = judge(logits, self.temperatures[position])
            probabilities[rows], confidence[rows], exits[rows] = share, sure, self.exits[position]
            if deepest:
                break
            # Not `sure < limit`: a confidence that is no number lets nobody leave.
            stay = ~(sure >= limits[rows, position]) & ~np.isin(owner[rows], list(errors))
            rows, hidden = rows[stay], hidden[stay]
            if not len(rows):
                break
        return probabilities, confidence, exits

    def _run(
        self,
        stage: str,
        rows: NDArray[np.int64],
        hidden: Floats,
        deepest: bool,
        owner: NDArray[np.int64],
        errors: dict[int, Any],
    ) -> tuple[NDArray[np.int64], Floats, Floats]:
        """Call a stage as often as its batch size asks for.

        A call that fails is the error of every request that had rows in it.

        Returns:
            the rows that were answered, their logits and their hidden (the deepest stage: logits
            twice).
        """
        done = [(rows[:0], np.empty((0, self.classes), dtype=np.float32), hidden[:0])]
        for start in range(0, len(rows), self.limit):
            part = slice(start, start + self.limit)
            found, error = _call(stage, hidden[part], deepest)
            if error is None:
                done.append((rows[part], found[0], found[-1]))
            else:
                errors.update(dict.fromkeys(owner[rows[part]].tolist(), error))
        if len(done) > 1:
            del done[0]
        answered, logits, onward = (_joined(list(column)) for column in zip(*done, strict=True))
        return answered, logits, onward

    def _count(self, exits: NDArray[np.int64]) -> None:
        for exit, counter in self.taken.items():
            count = int(np.count_nonzero(exits == exit))
            if count:
                counter.increment(count)


def judge(logits: Floats, temperature: float) -> tuple[Floats, Floats]:
    """Return confidence [n] and probabilities [n, C] of softmax(logits / temperature).

    The steps, their order and their float32 are those of the engine that chose the thresholds,
    so that an image on a threshold leaves here where it leaves there.
    """
    weights = logits - np.maximum.reduce(logits, axis=1, keepdims=True)
    if temperature != 1.0:
        np.divide(weights, np.float32(temperature), out=weights)
    np.exp(weights, out=weights)
    total = np.add.reduce(weights, axis=1)
    return np.reciprocal(total), weights / total[:, None]


def _call(stage: str, hidden: Floats, deepest: bool) -> tuple[list[Floats], Any]:
    """Run a stage and return its outputs, or the error that came instead."""
    names = ["logits"] if deepest else ["logits", "hidden_out"]
    request = pb_utils.InferenceRequest(
        model_name=stage,
        requested_output_names=names,
        inputs=[pb_utils.Tensor("hidden", hidden)],
        # The decision is made here, so the answers have to come to the host.
        preferred_memory=pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU),
    )
    response = request.exec()
    if response.has_error():
        failed = response.error()
        return [], pb_utils.TritonError(f"{stage}: {failed.message()}", failed.code())
    tensors = [pb_utils.get_output_tensor_by_name(response, name) for name in names]
    # Copies: their memory is the server's, which does not say for how long it stays.
    return [np.array(tensor.as_numpy()) for tensor in tensors], None


def _wrong(request: Any, thresholds: Floats) -> str:
    """Tell what is wrong with a request, if anything."""
    named = [key for key in json.loads(request.parameters() or "{}") if key in REFUSED]
    if named:
        return f"parameter {named[0]!r} is not read: send the tensor 'thresholds'"
    outside = thresholds[~((thresholds >= 0) & (thresholds <= 1))]
    return f"threshold {outside[0]} is no probability: give 0 to 1" if len(outside) else ""


def _listed(words: str) -> list[str]:
    return [word.strip() for word in words.split(",") if word.strip()]


def _joined(parts: list[Any]) -> Any:  # Any: arrays of one type
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
