"""A check of ours for schemathesis: what the schema allows is not called malformed.

Schemathesis' own check would refuse every 400 to a request that fits the schema. Some are right: a token that
this model's vocabulary lacks, a prompt beyond its context, a model that makes no embeddings, two fields that
contradict each other. Those have codes of their own. A code that says "this is not what the schema asks for"
may only meet what is not.
"""

from __future__ import annotations

import schemathesis
from schemathesis import GenerationMode

MALFORMED = {"invalid_type", "missing_required_parameter", "invalid_json", "missing_body"}


@schemathesis.check
def valid_data_is_not_called_malformed(
    ctx: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case
) -> None:
    """See the module."""
    positive = case.meta is not None and case.meta.generation.mode == GenerationMode.POSITIVE
    if not positive or response.status_code != 400:
        return
    error = response.json()["error"]
    code = error.get("code") if isinstance(error, dict) else None
    assert code not in MALFORMED, f"{code}: {error['message']}"
