"""What an agent can do: each tool has arguments that are checked, and a result in words."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from cellwright.kernels.errors import KernelError
from cellwright.notebooks.errors import EditConflict, NotebookError
from cellwright.notebooks.render import bounded
from cellwright.server.domain import ToolCall, ToolResult, Variable, VariablesBack
from cellwright.server.errors import Conflict, Invalid, NotFound
from cellwright.server.models.protocol import ToolSchema
from cellwright.server.workbench import Rejected, Workbench
from pydantic import BaseModel, ConfigDict, Field, ValidationError

READ_CHARACTERS = 8_000
READ_BYTES = 4 << 20


class _Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid")


class RunCell(_Arguments):
    source: str = Field(min_length=1, description="Python source of one notebook cell")
    purpose: str = Field("", max_length=200, description="What the cell is for, in a few words")


class EditCell(_Arguments):
    cell_id: str = Field(min_length=4, description="The cell's id, or its first characters")
    expected_hash: str = Field(min_length=4, description="The source hash that the cell had when you read it")
    source: str = Field(min_length=1)


class WriteMarkdown(_Arguments):
    source: str = Field(min_length=1, description="Markdown text of a notebook cell")


class ListFiles(_Arguments):
    pass


class ReadFile(_Arguments):
    name: str = Field(min_length=1, description="A file of the working directory")
    start_line: int = Field(1, ge=1)
    lines: int = Field(200, ge=1, le=2_000)


class InspectVariable(_Arguments):
    name: str = Field(min_length=1)


class Remember(_Arguments):
    name: str = Field(min_length=1, max_length=80, description="What it is about, in a word or two")
    fact: str = Field(min_length=1, max_length=2_000, description="The decision or fact, whole in itself")


class Checkpoint(_Arguments):
    label: str = Field(min_length=1, max_length=80, description="A name for the point, in a few words")


class TakeBack(_Arguments):
    label: str = Field(min_length=1, max_length=80, description="The name of the point to go back to")


class RecoverVariables(_Arguments):
    pass


class Finish(_Arguments):
    answer: str = Field(min_length=1, description="The answer to the user, in Markdown")
    artifacts: list[str] = Field(default=[], description="Names of the figures and files that belong to the answer")


@dataclass(frozen=True)
class Call:
    """A checked call, and where its result belongs."""

    bench: Workbench
    call_id: str
    message_id: str
    name: str

    def result(self, content: str, *, is_error: bool = False, cell_id: str | None = None) -> ToolResult:
        return ToolResult(call_id=self.call_id, name=self.name, content=content, is_error=is_error, cell_id=cell_id)


class Finished(Exception):
    """The agent said that it is done: a signal, not an error."""

    def __init__(self, answer: str, artifacts: list[str]) -> None:
        super().__init__("finished")
        self.answer, self.artifacts = answer, artifacts


async def _run_cell(call: Call, arguments: RunCell) -> ToolResult | None:
    source, changed_by = await call.bench.approved(call.call_id, call.message_id, arguments.source, arguments.purpose)
    await call.bench.run_cell(
        source,
        arguments.purpose,
        call_id=call.call_id,
        message_id=call.message_id,
        tool=call.name,
        metadata=_changed(changed_by, {}),
    )
    return None


def _changed(by: str | None, metadata: dict[str, Any]) -> dict[str, Any]:
    """A cell's metadata, with who changed its source before it ran."""
    return metadata if by is None else {**metadata, "cellwright": {**metadata.get("cellwright", {}), "changed_by": by}}


async def _edit_cell(call: Call, arguments: EditCell) -> ToolResult | None:
    try:
        cell = await call.bench.cell(arguments.cell_id)
        purpose = str(cell.metadata.get("cellwright", {}).get("purpose", ""))
        source, changed_by = arguments.source, None
        if cell.kind == "code":
            source, changed_by = await call.bench.approved(call.call_id, call.message_id, source, purpose)
        await call.bench.replace_source(cell, arguments.expected_hash, source)
    except (EditConflict, NotebookError, NotFound) as error:
        return call.result(str(error), is_error=True)
    if cell.kind != "code":
        return call.result(f"cell {cell.id[:8]} was changed.", cell_id=cell.id)
    await call.bench.run_cell(
        source,
        purpose,
        cell_id=cell.id,
        call_id=call.call_id,
        message_id=call.message_id,
        tool=call.name,
        metadata=_changed(changed_by, dict(cell.metadata)),
    )
    return None


async def _write_markdown(call: Call, arguments: WriteMarkdown) -> ToolResult | None:
    cell_id = await call.bench.add_markdown(arguments.source, "note", author="agent", call_id=call.call_id)
    return call.result(f"cell {cell_id[:8]} was written.", cell_id=cell_id)


async def _list_files(call: Call, arguments: ListFiles) -> ToolResult | None:
    found = await asyncio.to_thread(call.bench.workspace.files)
    known = await call.bench.files()
    lines = []
    for file in found[:200]:
        told = known.get(file.name)
        columns = ", ".join(column["name"] for column in (told.metadata.get("columns") or [])) if told else ""
        lines.append(f"{file.name}  {file.size_bytes:,} bytes{f'  columns: {columns}' if columns else ''}")
    if len(found) > 200:
        lines.append(f"… and {len(found) - 200} more")
    return call.result("\n".join(lines) or "The working directory is empty.")


async def _read_file(call: Call, arguments: ReadFile) -> ToolResult | None:
    file = await asyncio.to_thread(call.bench.workspace.open, arguments.name)
    if file is None:
        return call.result(f"There is no file {arguments.name!r} in the working directory.", is_error=True)

    def read() -> str | None:
        with file:
            data = file.read(READ_BYTES)
        if b"\x00" in data[:4096]:
            return None
        chosen = data.decode("utf-8", "replace").splitlines()
        first = arguments.start_line - 1
        return "\n".join(chosen[first : first + arguments.lines])

    text = await asyncio.to_thread(read)
    if text is None:
        return call.result(f"{arguments.name} is not a text file: load it in a cell.", is_error=True)
    return call.result(bounded(text, READ_CHARACTERS) or "(no such lines)")


async def _inspect_variable(call: Call, arguments: InspectVariable) -> ToolResult | None:
    try:
        found = await call.bench.variable(arguments.name)
    except KernelError as error:
        return call.result(str(error), is_error=True)
    if found is None:
        return call.result(f"There is no variable {arguments.name!r}.", is_error=True)
    return call.result(describe_variable(found))


def describe_variable(variable: Variable) -> str:
    """A variable in words, with a table's columns and first rows."""
    shape = f" {tuple(variable.shape)}" if variable.shape is not None else ""
    lines = [f"{variable.name}: {variable.type}{shape} {variable.preview}".rstrip()]
    if variable.size_bytes is not None:
        lines.append(f"{variable.size_bytes:,} bytes")
    if variable.summary:
        lines.append(", ".join(f"{name} {value:g}" for name, value in variable.summary.items()))
    for column in variable.columns or ():
        nulls = "" if column.nulls is None else f", {column.nulls} missing"
        lines.append(f"  {column.name}: {column.dtype}{nulls}")
    if variable.rows:
        lines += ["first rows:", *("  " + json.dumps(row, ensure_ascii=False) for row in variable.rows)]
    return bounded("\n".join(lines), READ_CHARACTERS)


async def _remember(call: Call, arguments: Remember) -> ToolResult | None:
    try:
        await call.bench.remember(arguments.name, arguments.fact)
    except Invalid as error:
        return call.result(str(error), is_error=True)
    return call.result("It is kept.")


async def _checkpoint(call: Call, arguments: Checkpoint) -> ToolResult | None:
    try:
        made = await call.bench.checkpoint(arguments.label)
    except KernelError as error:
        return call.result(str(error), is_error=True)
    without = f" It cannot hold: {', '.join(lost.name for lost in made.skipped[:10])}." if made.skipped else ""
    return call.result(f"The point {arguments.label!r} is kept, with {len(made.kept)} variables.{without}")


async def _rewind(call: Call, arguments: TakeBack) -> ToolResult | None:
    try:
        taken = await call.bench.take_back(arguments.label)
    except (NotFound, KernelError) as error:
        return call.result(str(error), is_error=True)
    back = taken.variables
    told = [
        f"Variables and files are as they were at {arguments.label!r}, after {taken.seconds:.1f} s:",
        *_brought_back(back),
        *(f"The file {left.name} stays as it is: {left.reason}." for left in taken.files.left[:20]),
        *(f"A cell since then {reason}: that is not taken back." for reason in taken.not_rewound),
    ]
    return call.result(" ".join([*told, "The cells since then stay in the notebook, marked as taken back."]))


async def _recover(call: Call, arguments: RecoverVariables) -> ToolResult | None:
    try:
        back = await call.bench.recover()
    except (Conflict, KernelError) as error:
        return call.result(str(error), is_error=True)
    return call.result(" ".join([f"The variables are back, after {back.seconds:.1f} s:", *_brought_back(back)]))


def _brought_back(back: VariablesBack) -> list[str]:
    """For a model: which variables are there by which means, and what is not as it was."""
    means = {"stored": "from what was stored", "rerun": "by running cells again"}
    how = " and ".join(means[name] for name in back.means if name in means) or "nothing had to be done"
    told = [f"{', '.join(back.restored[:60]) or 'none'} ({how})."]
    told += [f"{lost.name} could not be brought back as it was: {lost.reason}." for lost in back.missing[:20]]
    told += [
        f"A cell of turn {again.turn} was not run again: {again.reason}."
        for again in back.ran_again[:20]
        if again.verdict == "skipped"
    ]
    return told


async def _finish(call: Call, arguments: Finish) -> ToolResult | None:
    raise Finished(arguments.answer, arguments.artifacts)


@dataclass(frozen=True)
class Tool:
    """A tool: its arguments, and what it does. `run` returns None where the result is already in the log."""

    name: str
    description: str
    arguments: type[_Arguments]
    run: Callable[[Call, Any], Awaitable[ToolResult | None]]

    @property
    def schema(self) -> ToolSchema:
        schema = self.arguments.model_json_schema()
        for member in schema.get("properties", {}).values():
            member.pop("title", None)
        schema.pop("title", None)
        return ToolSchema(self.name, self.description, schema)


TOOLS = {
    tool.name: tool
    for tool in (
        Tool("run_cell", "Adds a code cell to the notebook and runs it.", RunCell, _run_cell),
        Tool("edit_cell", "Replaces the source of an existing cell, and runs it if it is code.", EditCell, _edit_cell),
        Tool("write_markdown", "Adds a Markdown cell to the notebook.", WriteMarkdown, _write_markdown),
        Tool("list_files", "Lists the files in the working directory.", ListFiles, _list_files),
        Tool("read_file", "Reads lines of a text file in the working directory.", ReadFile, _read_file),
        Tool(
            "inspect_variable",
            "Describes a variable: type, shape, and of a table the columns, missing values and first rows.",
            InspectVariable,
            _inspect_variable,
        ),
        Tool("remember", "Keeps a decision or fact in mind for the whole conversation.", Remember, _remember),
        Tool(
            "checkpoint",
            "Names the point where the work is, before something that may have to be taken back.",
            Checkpoint,
            _checkpoint,
        ),
        Tool(
            "rewind",
            "Brings variables and files back as they were at a checkpoint. Databases and the network are not rewound.",
            TakeBack,
            _rewind,
        ),
        Tool(
            "recover_variables",
            "Brings back what a kernel held that has died: stored variables, and cells that run again; cells that "
            "reach outside are left out, and named.",
            RecoverVariables,
            _recover,
        ),
        Tool("finish", "Ends the turn with the answer to the user.", Finish, _finish),
    )
}


async def run(bench: Workbench, call: ToolCall, message_id: str, allowed: tuple[str, ...]) -> ToolResult | None:
    """Runs one call of a model's; a call that cannot be understood gets a result that says so."""
    here = Call(bench, call.id, message_id, call.name)
    tool = TOOLS.get(call.name)
    if tool is None or call.name not in allowed:
        return here.result(f"There is no tool {call.name!r}. There are: {', '.join(allowed)}.", is_error=True)
    try:
        arguments = tool.arguments.model_validate_json(call.arguments or "{}")
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'arguments'}: {e['msg']}" for e in error.errors()[:5])
        return here.result(f"The arguments of {call.name} are wrong: {wrong}. Nothing was run.", is_error=True)
    try:
        return await tool.run(here, arguments)
    except Rejected as why:
        return here.result(f"The user did not allow this, and it was not run. Reason: {why}", is_error=True)
