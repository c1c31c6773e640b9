"""The public names of Mistral Workflows: `mistralai.workflows` and its plugin for agents.

    import outlast.compat.mistral_workflows as workflows
    import outlast.compat.mistral_workflows.plugins.mistralai as workflows_mistralai
    from outlast import TextChunk

stands for

    import mistralai.workflows as workflows
    import mistralai.workflows.plugins.mistralai as workflows_mistralai
    from mistralai.client.models import TextChunk

and the rest of a program stays as it is. The arguments and their order, the defaults and what is returned are
those of mistralai-workflows 3.16; `docs/how-to/migrating-from-mistral.md` lists what differs. Names of
`outlast` itself may stand beside these, so a program can go over to them one line after another.
"""

from outlast.compat.mistral_workflows import workflow as workflow
from outlast.compat.mistral_workflows.activities import (
    activity,
    activity_heartbeat,
    run_activities_locally,
)
from outlast.compat.mistral_workflows.children import (
    ParentClosePolicy,
    execute_workflow,
    get_execution_id,
)
from outlast.compat.mistral_workflows.exceptions import ActivityError, WorkflowError
from outlast.compat.mistral_workflows.interactive import InteractiveWorkflow
from outlast.compat.mistral_workflows.parallel import (
    ExtraItemParams,
    GetItemFromIndexParams,
    execute_activities_in_parallel,
)
from outlast.compat.mistral_workflows.refusals import WORKFLOWS, refusing
from outlast.compat.mistral_workflows.workers import run_worker
from outlast.runtime.definitions.depends import Depends

__all__ = [
    "ActivityError",
    "Depends",
    "ExtraItemParams",
    "GetItemFromIndexParams",
    "InteractiveWorkflow",
    "ParentClosePolicy",
    "WorkflowError",
    "activity",
    "activity_heartbeat",
    "execute_activities_in_parallel",
    "execute_workflow",
    "get_execution_id",
    "run_activities_locally",
    "run_worker",
    "workflow",
]

__getattr__ = refusing(__name__, WORKFLOWS)
