"""One check for every array that goes to C++: its type and number of axes, in one wording.

The core checks sizes itself. It takes contiguous arrays of exactly one type, so a wrong type is refused
here instead of being converted: float weights or activations in the place of codes are a mistake, not a
request to round.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt

from tercet.errors import ParameterError

__all__ = ["operand"]

Scalar = TypeVar("Scalar", bound=np.generic)


def operand(
    operation: str, name: str, values: npt.NDArray[Scalar], scalar: type[Scalar], axes: str
) -> npt.NDArray[Scalar]:
    """Return `values` as a contiguous array; `axes` names its axes, for example "rows, depth".

    Raises:
        ParameterError: another type, or another number of axes.
    """
    array = np.asarray(values)
    if array.dtype != scalar or array.ndim != axes.count(",") + 1:
        expected = f"{np.dtype(scalar).name} [{axes}]"
        raise ParameterError(
            f"{operation}: {name} should be {expected}, got {array.dtype} {list(array.shape)}"
        )
    return np.ascontiguousarray(array)
