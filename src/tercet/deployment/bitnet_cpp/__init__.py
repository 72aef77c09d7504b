"""A model in bitnet.cpp or llama.cpp: a build on this machine, driven as a server or through its script.

    strategy       the model as GGUF, the program, an answer
    program        which build there is, and whether it runs here
    server         llama-server as a child on a free port of this machine
    script         bitnet.cpp's run_inference.py, a process for each answer
    installation   the steps that make a build, printed or run with time limits

What is not ours runs as `tercet.deployment.guarded_process` has it: it cannot be left behind, hang, or fill
the memory.
"""

from __future__ import annotations

from tercet.deployment.bitnet_cpp.strategy import BitnetCppStrategy

__all__ = ["BitnetCppStrategy"]
