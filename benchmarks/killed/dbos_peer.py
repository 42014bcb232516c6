"""DBOS on SQLite, a workflow for each item, a step for each call. Variants: step, step+key."""

import asyncio
import json
import sys
from pathlib import Path

from dbos import DBOS, DBOSConfig, SetWorkflowID
from scenario import ITEMS, STEPS, Provider

variant, folder, kill = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
provider = Provider(folder, kill)


@DBOS.step()
async def pay(number: int, step: int) -> str:
    """One paid step."""
    return await provider.pay(number, step, f"{DBOS.workflow_id}-{step}" if variant.endswith("+key") else None)


@DBOS.workflow()
async def chain(number: int) -> int:
    """All steps of one item."""
    for step in range(STEPS):
        await pay(number, step)
    return number


async def main() -> None:
    """Run to the end; print the items that came out."""
    url = f"sqlite:///{folder}/run.sqlite"
    config = DBOSConfig(name="killed", system_database_url=url, run_admin_server=False, application_version="1")
    DBOS(config=config)
    DBOS.launch()  # goes on with what was under way

    async def one(number: int) -> None:
        with SetWorkflowID(str(number)):  # one that is there already is not started twice
            handle = await DBOS.start_workflow_async(chain, number)
        await handle.get_result(polling_interval_sec=0.05)

    await asyncio.gather(*map(one, range(ITEMS)))
    ended = await DBOS.list_workflows_async(status="SUCCESS")
    print(json.dumps([w.output for w in ended]))
    DBOS.destroy()


asyncio.run(main())
