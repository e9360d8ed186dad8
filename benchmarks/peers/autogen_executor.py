"""AutoGen's Jupyter executor: milliseconds from its start to the first answer, for each cell among the arguments.

Run by the peers' interpreter: prints a JSON list on its last line.
"""

import asyncio
import json
import sys
import time

from autogen_core import CancellationToken
from autogen_core.code_executor import CodeBlock
from autogen_ext.code_executors.jupyter import JupyterCodeExecutor


async def main() -> None:
    """Starts an executor a cell."""
    found = []
    for source in sys.argv[1:]:
        began = time.perf_counter()
        async with JupyterCodeExecutor() as executor:
            done = await executor.execute_code_blocks([CodeBlock(source, "python")], CancellationToken())
            assert done.exit_code == 0, done.output
            found.append((time.perf_counter() - began) * 1000)
    print(json.dumps(found))


asyncio.run(main())
