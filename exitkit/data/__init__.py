"""Data sets, their splits, and batches to train on."""

from pathlib import Path

from exitkit import names
from exitkit.config import TrainConfig
from exitkit.data import cifar, digits, folder, layouts
from exitkit.data.cache import directory as user_cache
from exitkit.data.loader import Loader
from exitkit.data.split import Certify, DataSets, Defaults, Split, Test, Train, Tune
from exitkit.errors import ConfigError, unknown

__all__ = [
    "Certify",
    "DataSets",
    "Defaults",
    "Loader",
    "Split",
    "Test",
    "Train",
    "Tune",
    "load",
]


def load(config: TrainConfig, download: bool = False, cache: Path | None = None) -> DataSets:
    """Load the data set that `config.data` names: a known one, an archive, or an image folder.

    Known archives are looked for in ./data, then in the cache. Split, order and size follow from
    the data and `config` alone.

    Args:
        config: its data, image_size, tune_share, cache_mb and workers are read.
        download: whether a known data set that is not here may be fetched.
        cache: where decoded images and downloads are kept; None is ~/.cache/exitkit (or under
            XDG_CACHE_HOME).

    Raises:
        ConfigError: there is no such data set and no such path.
        DataError: the data are damaged, missing or not of the expected form.
    """
    kept, share, size = user_cache(cache), config.tune_share, config.image_size
    if config.data == "digits":
        return digits.load(size, share, kept)
    if config.data in cifar.KINDS:
        archive = cifar.find(config.data, (Path("data"),), download, kept)
        return cifar.load(config.data, archive, size, share, kept)
    path = Path(config.data).expanduser()
    if path.is_dir():
        for name, kind in cifar.KINDS.items():
            if (path / kind.source.file).is_file():
                return cifar.load(name, path / kind.source.file, size, share, kept)
        return folder.load(path, config, kept)
    if path.is_file():
        return cifar.load(cifar.recognise(path), path, size, share, kept)
    choice = unknown("data set", config.data, names.DATASETS)
    raise ConfigError(
        choice.asked,
        f"{choice.found}, and there is no such folder or file",
        f"{choice.do}; or give the path of a folder with train/ and test/, or of an unpacked "
        f"{', '.join(layout.title for layout in layouts.LAYOUTS)}",
    )
