"""A ternary model trained further on examples of what it should do, and exported to what was measured.

settings      every hyper-parameter, with its default
trainable     a stored model as a network of transformers
masters       made up for a model that has none
methods       what is trained of it: everything here, adapters in `lora`
trainer       the loop: precision, NaN, checkpoints, an evaluation that means what the file will do
export        the network as a file again
evaluation    the loss of a network, and of a file
finetuner     all of this in order: `FineTuner`
run_folder    which run a folder holds, and where it goes on
report        what came out
"""

from __future__ import annotations

from tercet.environment import optional_import

for _module in ("torch", "transformers", "accelerate"):
    optional_import(_module, "finetune")  # says what to install, where a bare import would not
