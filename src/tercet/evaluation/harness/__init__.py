"""lm-eval, EleutherAI's harness, over our engine: `model` is what it talks to, `local_tasks` its own tasks
over data at hand.

    import lm_eval
    from tercet import LLM
    from tercet.evaluation.harness.model import HarnessModel

    lm_eval.simple_evaluate(model=HarnessModel(LLM("model.tercet")), tasks=["arc_easy"])

needs no more than that where lm-eval may fetch its data; `tercet eval lm-eval` works without a network.
"""

from tercet.environment import optional_import

optional_import("lm_eval", "evaluation")
