"""A loaded bundle: from images in any form to answers. `exitkit.load(bundle).predict(images)`."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from exitkit import bundle as bundles
from exitkit import images, runs
from exitkit.bundle import Manifest
from exitkit.engine import backends
from exitkit.engine.engine import Answers, Engine
from exitkit.errors import BadImage, ConfigError
from exitkit.policy.policy import Policy

BATCH = 32
Picture = str | Path | bytes | Image.Image | NDArray[np.uint8]


@dataclass(frozen=True)
class Prediction:
    """The answer for one image.

    Attributes:
        label: name of the class.
        probability: of that class, calibrated.
        exit: number of the exit that answered.
        ms: the engine's time for the batch that the image was in, divided by its images.
    """

    label: str
    probability: float
    exit: int
    ms: float


@dataclass(frozen=True)
class Model:
    """A bundle, ready to run; several threads may share it.

    Attributes:
        folder: of the bundle.
        manifest: what it holds.
        engine: segments and policy.
    """

    folder: Path
    manifest: Manifest
    engine: Engine

    @property
    def policy(self) -> Policy:
        """The policy that the engine asks."""
        return self.engine.policy

    def predict(
        self, pictures: Iterable[Picture], batch_size: int = BATCH, max_exit: int | None = None
    ) -> list[Prediction]:
        """Answer images in their order.

        Args:
            pictures: paths of PNG, JPEG or WebP files, their bytes, PIL images, or uint8 arrays
                [H, W, 3] or [H, W]; an array [N, H, W, 3] is N images.
            batch_size: images that the engine gets at once.
            max_exit: number of the exit at which every image leaves at the latest.

        Raises:
            ConfigError: one image instead of several, a batch size below 1, an unknown exit.
            BadImage: something is no image that exitkit takes; its path or place is named.
        """
        _several(pictures)
        if batch_size < 1:
            raise ConfigError(f"batch size {batch_size}", "holds no image", "give 1 or more")
        found: list[Prediction] = []
        batch: list[NDArray[np.uint8]] = []
        for place, picture in enumerate(pictures):
            batch.append(self._pixels(picture, place))
            if len(batch) == batch_size:
                found += self._answer(batch, max_exit)
                batch = []
        return found + (self._answer(batch, max_exit) if batch else [])

    def _pixels(self, picture: Picture, place: int) -> NDArray[np.uint8]:
        """Give an image the network's size, alone, so that its batch cannot change it."""
        spec = self.manifest.image
        if isinstance(picture, str | Path):
            return images.decode(Path(picture), spec)
        name = f"image {place}"
        if isinstance(picture, bytes):
            return images.decode(picture, spec, name=name)
        if isinstance(picture, np.ndarray):
            grey, coloured = picture.ndim == 2, picture.ndim == 3 and picture.shape[2] == 3
            if picture.dtype != np.uint8 or picture.size == 0 or not (grey or coloured):
                raise BadImage(
                    name,
                    f"{picture.dtype} array of shape {picture.shape}",
                    "give uint8 [H, W, 3] or [H, W]",
                )
            picture = Image.fromarray(picture)
        if not isinstance(picture, Image.Image):
            raise BadImage(
                name,
                f"is a {type(picture).__name__}",
                "give a path, a file's bytes, a PIL image or a uint8 array",
            )
        return images.from_pil(picture, spec, name)

    def _answer(self, batch: list[NDArray[np.uint8]], max_exit: int | None) -> list[Prediction]:
        inputs = images.normalise(np.stack(batch), self.manifest.image)
        start = time.perf_counter()
        answers = self.engine.answer(inputs, max_exit=max_exit)
        ms = (time.perf_counter() - start) * 1e3 / len(batch)
        return _named(answers, self.manifest.classes, ms)


def load(
    bundle: str | Path | None = None,
    threshold: float | None = None,
    pool: str = "private",
    threads: int | None = None,
    provider: str = "cpu",
) -> Model:
    """Load a bundle: check every file's digest, and that the policy belongs to the network.

    Args:
        bundle: folder or name in bundles/; the latest where None.
        threshold: one for all exits, instead of the policy's own.
        pool: of threads, "private" or "shared" (see exitkit.engine.ort).
        threads: of the pool; all cores where None.
        provider: what computes: "cpu" or another of exitkit.engine.backends.

    Raises:
        BundleError: no bundle there, a file missing or edited, another network's policy.
        ConfigError: a threshold outside 0..1, or a pool or provider that cannot be had.
    """
    folder = runs.find_bundle(None if bundle is None else str(bundle))
    manifest = bundles.read_manifest(folder)
    policy = Policy.read(folder / bundles.POLICY)
    policy.require(manifest.network, manifest.exits)
    if threshold is not None:
        policy = policy.with_threshold(threshold)
    return Model(
        folder, manifest, Engine(backends.load(folder, manifest, pool, threads, provider), policy)
    )


def _named(answers: Answers, classes: tuple[str, ...], ms: float) -> list[Prediction]:
    return [
        Prediction(classes[label], float(probability), int(number), ms)
        for label, probability, number in zip(
            answers.label, answers.probability, answers.exit, strict=True
        )
    ]


def _several(pictures: object) -> None:
    one = isinstance(pictures, str | bytes | Path | Image.Image)
    if one or (isinstance(pictures, np.ndarray) and pictures.ndim != 4):
        raise ConfigError(
            "predict", "one image instead of several", "put it into a list: predict([image])"
        )
