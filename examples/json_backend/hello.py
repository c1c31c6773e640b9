import asyncio

import outlast


@outlast.workflow.define(name="hello")
class Hello:
    @outlast.workflow.entrypoint
    async def run(self, name: str) -> str:
        return f"Hello, {name}!"


print(asyncio.run(outlast.execute_workflow(Hello, "Ada", id="hello-1", backend="json:runs.json")))
