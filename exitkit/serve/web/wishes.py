"""What /predict may be asked beside its images, from the query and from the body, once each."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from reprlib import repr as brief  # what clients sent may be long
from typing import Any

from exitkit.errors import RequestError
from exitkit.serve import options
from exitkit.serve.options import Options

IN_BODY = (*options.NAMES, "top")
IN_QUERY = (*IN_BODY, "model", "stream")
SWITCH = {"1": True, "true": True, "0": False, "false": False}


@dataclass(frozen=True)
class Wishes:
    """Wishes of one request to /predict.

    Attributes:
        values: those that every protocol has, as they were sent; a list has one an image.
        top: how many of the best classes are wanted.
        model: name of the one that is to answer; None: the server's first.
        stream: whether each exit's answer is to be sent as it comes.
    """

    values: Mapping[str, Any]  # Any: text or JSON
    top: int = 0
    model: str | None = None
    stream: bool = False

    def options(self, exits: Sequence[int]) -> Options:
        """Return what the scheduler is asked for, checked.

        Raises:
            RequestError: a wish that cannot be met.
        """
        threshold = self.values.get("threshold")
        if not isinstance(threshold, list):
            return options.parse(self.values, exits)
        others = options.parse({**self.values, "threshold": None}, exits)
        return Options(options.thresholds(threshold), others.max_exit, others.deadline_ms)


def once(pairs: Iterable[tuple[str, str]]) -> dict[str, str | list[str]]:
    """Return texts by name; where a name stands several times, the list of its texts."""
    found: dict[str, list[str]] = {}
    for name, text in pairs:
        found.setdefault(name, []).append(text)
    return {name: texts[0] if len(texts) == 1 else texts for name, texts in found.items()}


def read(query: Iterable[tuple[str, str]], body: Mapping[str, Any]) -> Wishes:  # Any: as above
    """Read the wishes of a request.

    Args:
        query: names and values of its query string.
        body: wishes by name that came with the images.

    Raises:
        RequestError: an unknown name, one that was given twice, or a value that says nothing.
    """
    texts = once(query)
    _require_known("parameter", texts, IN_QUERY)
    _require_known("field", body, IN_BODY)
    for name in texts:
        if name in body:
            raise RequestError(name, "stands in the query and in the body", "give it once")
    values = {**texts, **body}
    top, model, stream = (values.pop(name, None) for name in ("top", "model", "stream"))
    if isinstance(model, list):
        raise RequestError("model", f"{len(model)} are named", "name one")
    return Wishes(values, _top(top), model, _switch(stream))


def _require_known(what: str, table: Mapping[str, Any], known: Sequence[str]) -> None:
    for name in table:
        if name not in known:
            raise RequestError(
                f"{what} {brief(name)}", f"no such {what}", f"choose from: {', '.join(known)}"
            )


def _top(value: Any) -> int:
    if value is None:
        return 0
    text = str(value)
    number = isinstance(value, int | str) and text.isascii() and text.isdecimal()
    if not number or len(text) > 9 or int(text) < 1:
        raise RequestError(f"top {brief(value)}", "is no number of classes", "give, say, 5")
    return int(text)


def _switch(value: Any) -> bool:
    if value is None:
        return False
    if not isinstance(value, str) or value not in SWITCH:
        raise RequestError(f"stream {brief(value)}", "is neither 1 nor 0", "give stream=1")
    return SWITCH[value]
