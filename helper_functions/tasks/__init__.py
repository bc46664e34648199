"""The tasks by the name that ``--task`` gives; a new one is a package and a line here."""

from helper_functions.runtime.errors import UserError
from helper_functions.tasks.base import Task
from helper_functions.tasks.classify import Classify
from helper_functions.tasks.count.task import Count

TASKS: dict[str, type[Task]] = {
    "classify": Classify,
    "count": Count,
}
DEFAULT_TASK = "classify"


def get_task(name: str) -> type[Task]:
    """Return a task by name.

    Raises:
        UserError: If there is none of that name.
    """
    if name not in TASKS:
        raise UserError(f"There is no task {name!r}; choose one of {', '.join(TASKS)}.")
    return TASKS[name]
