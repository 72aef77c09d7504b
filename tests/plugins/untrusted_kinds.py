"""Every kind of bytes that reaches us from strangers: sound examples, how to damage one, and who reads it.

    KINDS[name].wholes(folder)             sound files of this kind, the smallest first
    KINDS[name].open(folder)               a reader: bytes -> nothing, or one of `refusals`
    KINDS[name].damage(whole, random)      other bytes

A reader does all that is ever done with such bytes: it opens them and looks at everything that they hold.
"""

from __future__ import annotations

from untrusted_kind import Kind
from untrusted_texts import TEXTS
from untrusted_weights import WEIGHTS

KINDS: dict[str, Kind] = {**WEIGHTS, **TEXTS}
