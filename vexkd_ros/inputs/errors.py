"""Reasons why an input cannot be used, in the same words whoever found them."""

from typing import NamedTuple

COMING_NS = 1_000_000_000  # a stamp further ahead of the newest transform is not worth waiting for


class Reason(NamedTuple):
    """Reason why an output is less than it should be. kind: without numbers that vary, to be counted. text: in full."""

    kind: str
    text: str


class InputError(ValueError):
    """Input that cannot be used, and why, in one line. `kind` is the same text without numbers that vary."""

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(f"{kind}: {detail}" if detail else kind)
        self.kind = kind

    def reason(self, form: str = "{}") -> Reason:
        """Return it as a reason, in the place of {} in a sentence."""
        return Reason(form.format(self.kind), form.format(self))


class CloudError(InputError):
    """PointCloud2 that cannot be read."""


class ImageError(InputError):
    """Image or CameraInfo that cannot be read."""


class TransformUnavailable(InputError):
    """Missing transform. `coming`: it is worth waiting a moment for."""

    def __init__(self, kind: str, detail: str = "", coming: bool = False) -> None:
        super().__init__(kind, detail)
        self.coming = coming


def beyond_newest(parent: str, child: str, stamp_ns: int, newest_ns: int) -> TransformUnavailable:
    """Make the error of a stamp later than the newest transform between two frames."""
    ahead_ns = stamp_ns - newest_ns
    detail = f"{stamp_ns / 1e9:.6f} s is {ahead_ns / 1e9:.3f} s beyond the newest, {newest_ns / 1e9:.6f} s"
    return TransformUnavailable(_not_then(parent, child), detail, coming=ahead_ns < COMING_NS)


def beyond_oldest(parent: str, child: str, stamp_ns: int) -> TransformUnavailable:
    """Make the error of a stamp earlier than the oldest transform between two frames."""
    return TransformUnavailable(_not_then(parent, child), f"{stamp_ns / 1e9:.6f} s is beyond the oldest")


def _not_then(parent: str, child: str) -> str:
    return (
        f"no transform {parent} → {child} at the message's stamp; check the clocks and the rate of who publishes "
        "it, or raise tf_timeout"
    )
