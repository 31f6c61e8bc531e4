"""Every form by its name, and how it is written."""

from collections.abc import Callable

from exitkit.export.forms import cascade, chain, every

# Each takes (files, exits, temperatures, path, metadata), as `cascade.write` explains.
FORMS: dict[str, Callable[..., None]] = {
    "cascade": cascade.write,
    "chain": chain.write,
    "all": every.write,
}
