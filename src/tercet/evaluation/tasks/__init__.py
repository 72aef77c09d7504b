"""Tasks by name. `task` says what one is; the other modules hold what they ask, and their grades."""

from __future__ import annotations

from tercet.errors import ParameterError
from tercet.evaluation.tasks.choices import CHOICE_TASKS
from tercet.evaluation.tasks.code import CODE_TASKS
from tercet.evaluation.tasks.ifeval import IFEVAL_TASKS
from tercet.evaluation.tasks.mathematics import MATHEMATICS_TASKS
from tercet.evaluation.tasks.task import Task

__all__ = ["TASKS", "find_tasks"]

TASKS: dict[str, Task] = {
    task.name: task for task in (*CHOICE_TASKS, *MATHEMATICS_TASKS, *CODE_TASKS, *IFEVAL_TASKS)
}


def find_tasks(names: str, *, allows_code: bool = False) -> list[Task]:
    """Return the tasks of a list with commas; `all` are those that run no code, unless that is allowed.

    Raises:
        ParameterError: there is no task of a name.
    """
    if names.strip() == "all":
        return [task for task in TASKS.values() if allows_code or not task.runs_code]
    asked = [name.strip() for name in names.split(",") if name.strip()]
    if not asked:
        raise ParameterError(f"name at least one task; there are {', '.join(TASKS)}")
    for name in asked:
        if name not in TASKS:
            raise ParameterError(f"there is no task {name!r}; there are {', '.join(TASKS)}")
    return [TASKS[name] for name in dict.fromkeys(asked)]
