"""Which GPU computes, and what it has: asked before anything is uploaded, so that an answer is a sentence."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from tercet.environment import optional_import
from tercet.errors import DeviceError, ParameterError

if TYPE_CHECKING:
    import torch

__all__ = ["CUDA", "GpuDescription", "allocated_bytes", "describe", "find_gpu", "free_bytes"]

CUDA = "cuda"
OLDEST = (8, 0)
"""The oldest compute capability whose tensor cores multiply int8 as the kernels want it."""


@dataclass(frozen=True)
class GpuDescription:
    """A GPU, so that a figure can be placed."""

    name: str
    capability: str
    memory_bytes: int
    processors: int
    torch: str
    triton: str
    cuda: str | None

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON-ready values."""
        return asdict(self)

    def described(self) -> str:
        """One line for people."""
        return (
            f"{self.name} (compute capability {self.capability}, {self.memory_bytes / 2**30:.1f} GiB, "
            f"{self.processors} multiprocessors), PyTorch {self.torch}, Triton {self.triton}, "
            f"CUDA {self.cuda}"
        )


def find_gpu(device: str = CUDA) -> torch.device:
    """Return the GPU of this name, `cuda` for the current one or `cuda:N`.

    Raises:
        ParameterError: it is no such name.
        MissingExtraError: PyTorch or Triton is not installed.
        DeviceError: PyTorch sees no GPU, not this one, or one that is too old.
    """
    kind, colon, number = device.partition(":")
    if kind != CUDA or (colon and not number.isdecimal()):
        raise ParameterError(f"device is cpu, cuda or cuda:NUMBER, not {device!r}")
    optional_import("torch", "gpu")
    optional_import("triton", "gpu")
    import torch

    if torch.version.cuda is None:
        raise DeviceError(
            f"device {device!r} needs PyTorch with CUDA, and the installed {torch.__version__} was "
            "built without it; install the one for your GPU from https://pytorch.org, or take device 'cpu'"
        )
    if not torch.cuda.is_available():
        raise DeviceError(
            f"device {device!r} needs an NVIDIA GPU and its driver, and PyTorch {torch.__version__} "
            "finds none: see what nvidia-smi says, or take device 'cpu'"
        )
    count = torch.cuda.device_count()
    index = int(number) if number else torch.cuda.current_device()
    if index >= count:
        raise DeviceError(f"there is no device {device!r}; this machine has cuda:0 to cuda:{count - 1}")
    found = torch.cuda.get_device_capability(index)
    if found < OLDEST:
        raise DeviceError(
            f"{torch.cuda.get_device_name(index)} has the compute capability {found[0]}.{found[1]}, and the "
            f"kernels need {OLDEST[0]}.{OLDEST[1]} or newer (A100, RTX 30 and later); take device 'cpu'"
        )
    return torch.device(CUDA, index)


def describe(device: torch.device) -> GpuDescription:
    """Describe a GPU that `find_gpu` returned."""
    import torch
    import triton

    properties = torch.cuda.get_device_properties(device)
    return GpuDescription(
        name=properties.name,
        capability=f"{properties.major}.{properties.minor}",
        memory_bytes=properties.total_memory,
        processors=properties.multi_processor_count,
        torch=torch.__version__,
        triton=triton.__version__,
        cuda=torch.version.cuda,
    )


def free_bytes(device: torch.device) -> int | None:
    """Memory of the GPU that is free now; None where kernels are interpreted, which need no GPU."""
    import torch

    return int(torch.cuda.mem_get_info(device)[0]) if device.type == CUDA else None


def allocated_bytes(device: torch.device) -> int:
    """Memory of the GPU that tensors of this process take."""
    import torch

    return int(torch.cuda.memory_allocated(device)) if device.type == CUDA else 0
