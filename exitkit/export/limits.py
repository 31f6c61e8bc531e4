"""How far an export may be from the trained network, per precision: the limits of the parity gate.

Why a gate passes nothing that decides otherwise in a way that matters, though single images may:

* A logit is bounded (float32, fp16), or the error as a whole is (int8), so confidences move by
  little. But how little depends on the largest logit of all images, and many images may lie
  close to one threshold.
* Whatever their reason, decisions that differ are few: of all of them the share `raw` at most,
  and at each setting of thresholds by itself not many more (`Limits.at_one_setting`), so that
  no group of like images changes sides. The settings are every decile of an exit's confidences,
  the policy's own thresholds, and those that the engine answers with.
* Where images are not near, none may differ (float32, fp16), or few of each exit's (int8).
* fp16 and int8 may cost an exit and the policy little accuracy, near or not.
"""

import math
from dataclasses import dataclass

SHARE = 1e-4  # of the largest logit: how far a float32 logit may be off
STANDARD_ERRORS = 2.0


@dataclass(frozen=True)
class Limits:
    """How far an export of one precision may be from the trained network.

    Attributes:
        precision: its name.
        logit: how far any logit may be off, as a share of the exit's largest; None where the
            error is judged as a whole.
        noise: how large the error may be, as a share of how much the images differ in their
            logits; None where every logit is bounded. Both are root mean squares without what
            all logits of an image have in common, which changes no probability.
        classes: share of the images that may get another class at an exit and are no ties.
        decisions: share of an exit's decisions that were not near that may take another exit, and
            share that may give another label. An exit's decisions are those that the trained
            network takes there, over all images and settings.
            Where a share is not 0, one image may always differ, at all its settings (eleven):
            few images tell no share.
        near: share of all decisions that may be too near to tell. Where nearly none may differ
            at all (`raw`) any number may be: hardly trained exits say much the same of all images.
        raw: share of all decisions, near ones too, that may take another exit or give another
            label.
        accuracy: share of all images that an exit, or the policy, may answer less rightly, beyond
            what chance explains (`exitkit.export.precision.change`).
    """

    precision: str
    logit: float | None
    noise: float | None
    classes: float
    decisions: float
    accuracy: float
    near: float
    raw: float

    def at_one_setting(self, images: int, thresholds: int) -> int:
        """Return how many images one setting of thresholds may decide otherwise, near or not.

        The share `raw` and two standard errors of that count; or one image per threshold, because
        export chooses confidences of single images, which then lie exactly there.
        """
        share = self.raw * images
        return max(int(share + STANDARD_ERRORS * math.sqrt(share)), thresholds)


LIMITS = {
    "float32": Limits("float32", SHARE, None, 0.0, 0.0, 0.0, 1.0, 0.01),
    # 0.0016 was the worst of four networks, also with every tensor rounded as a GPU rounds it.
    "fp16": Limits("fp16", 4e-3, None, 0.0, 0.0, 0.005, 1.0, 0.02),
    "int8": Limits("int8", None, 0.1, 0.02, 0.02, 0.005, 0.5, 0.1),
}
FLOAT32 = LIMITS["float32"]
