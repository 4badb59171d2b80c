"""Why there is no transform, in the same words whoever looked for it."""

COMING_NS = 1_000_000_000  # a stamp further ahead of the newest transform is not worth waiting for


class TransformUnavailable(LookupError):
    """No answer, and why, in one line. `kind` is the same text without times; `coming`: worth waiting a moment."""

    def __init__(self, kind: str, detail: str = "", coming: bool = False) -> None:
        super().__init__(f"{kind}: {detail}" if detail else kind)
        self.kind = kind
        self.coming = coming


def beyond_newest(parent: str, child: str, stamp_ns: int, newest_ns: int) -> TransformUnavailable:
    """The stamp is later than the newest transform between those frames."""
    ahead_ns = stamp_ns - newest_ns
    detail = f"{stamp_ns / 1e9:.6f} s is {ahead_ns / 1e9:.3f} s beyond the newest, {newest_ns / 1e9:.6f} s"
    return TransformUnavailable(_not_then(parent, child), detail, coming=ahead_ns < COMING_NS)


def beyond_oldest(parent: str, child: str, stamp_ns: int) -> TransformUnavailable:
    """The stamp is earlier than the oldest transform between those frames."""
    return TransformUnavailable(_not_then(parent, child), f"{stamp_ns / 1e9:.6f} s is beyond the oldest")


def _not_then(parent: str, child: str) -> str:
    return f"no transform {parent} → {child} at the cloud's time; check its clock and rate, or raise tf_timeout"
