"""Says in words and colours what a compute queue waits for: to add a stall, add its entry here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class StallLook:
    """Says how tables and pictures show one stall.

    Attributes:
        title: what tables call it.
        narrow: what a column's header calls it, where that is something shorter.
        cause: what is waited for.
        article: the cause's, in a sentence.
        kind: the operation that waits, where the cause alone does not tell.
        colour: that of what is waited for, by its name in the palette.
        hatch: how its hatch lies, as matplotlib writes it, so that no cause is told by its colour alone.
        of_copies: whether offloading costs it; the others are the pipeline's own.
    """

    title: str
    narrow: str = ""
    cause: str
    article: str = ""
    kind: str = ""
    colour: str
    hatch: str
    of_copies: bool = False

    @property
    def short(self) -> str:
        """Return what a column's header calls the stall."""
        return self.narrow or self.title

    @property
    def label(self) -> str:
        """Return what is waited for, as a legend has it."""
        return f"{self.cause} ({self.kind})" if self.kind else self.cause

    @property
    def in_a_sentence(self) -> str:
        """Return what is waited for, with its article."""
        return f"{self.article} {self.label}" if self.article else self.label


# They are shown in the order of loadahead.sim.step_metrics.STALLS.
STALL_LOOKS = {
    "release": StallLook(
        title="offload", cause="offload", article="an", kind="RELEASE", colour="offload", hatch="////", of_copies=True
    ),
    "prefetch": StallLook(
        title="prefetch", cause="prefetch", article="a", colour="prefetch", hatch="\\\\\\\\", of_copies=True
    ),
    "send": StallLook(title="send", cause="send", article="a", kind="RELEASE", colour="send-activation", hatch="xxxx"),
    "recv": StallLook(title="receive (bubble)", narrow="bubble", cause="another rank", colour="bubble", hatch="||||"),
}
