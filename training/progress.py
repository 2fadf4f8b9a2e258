"""How far a loop is: a bar on a terminal, a line every half minute in a log."""

import sys
import time

from tqdm import tqdm

EVERY = 30  # seconds


class Progress:
    """for item in Progress(items, "epoch 1", "batch"): ...; `note` is shown with the count."""

    def __init__(self, items, title, unit, quiet=False):
        self.items, self.title, self.unit, self.quiet, self.note = items, title, unit, quiet, ""

    def __iter__(self):
        if self.quiet or sys.stderr.isatty():
            bar = tqdm(self.items, desc=self.title, unit=self.unit, leave=False, disable=self.quiet)
            for item in bar:
                yield item
                bar.set_postfix_str(self.note)
            return
        began = said = time.monotonic()
        for done, item in enumerate(self.items, 1):
            yield item
            if (now := time.monotonic()) - said >= EVERY:
                said = now
                print(f"{self.title}: {done}/{len(self.items)} {self.unit}, {now - began:.0f} s {self.note}".rstrip(), flush=True)
