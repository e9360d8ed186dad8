/** The session's events as changes of an open notebook: what the user typed is kept. */

import type { ICellModel, ICodeCellModel } from '@jupyterlab/cells';
import type { INotebookModel } from '@jupyterlab/notebook';
import { OutputAreaModel } from '@jupyterlab/outputarea';

import type { Told } from '../api/socket';
import { noted, shownOutputs, type Held } from './held';
import { OutputArea, inlined, put, references, type Output } from '../model/outputs';

const KEPT = '-kept';
const KEPT_TAG = 'cellwright-kept';
const ATTACHMENTS = 'cellwright/attachments';

interface Content {
  id: string;
  kind: 'code' | 'markdown' | 'raw';
  source: string;
  outputs: Output[];
  execution_count: number | null;
  metadata: Record<string, any>;
}

/** Fetches what references name. */
export type Fetch = (names: string[]) => Promise<Map<string, ArrayBuffer>>;

export class NotebookEdits {
  constructor(
    readonly model: INotebookModel,
    private readonly fetch: Fetch
  ) {
    this._known = noted(model);
    this._order = [...this._known.keys()];
  }

  /** Whether the user changed something that the log does not know yet. */
  get differs(): boolean {
    const ids = this._ids();
    return ids.join() !== this._order.join() || ids.some(id => !this._same(id));
  }

  /** Notes what is sent with a save: the log will tell it back, and that is no change of anybody else's. */
  sending(): void {
    for (const cell of this.model.cells) {
      if (!this._typed(cell)) {
        continue;
      }
      const sent = this._sent.get(cell.id) ?? new Set();
      this._sent.set(cell.id, sent.add(cell.sharedModel.getSource()));
    }
  }

  /** What the notebook holds, to be compared. */
  get signature(): string {
    return [...this.model.cells]
      .map(cell => `${cell.id}\n${cell.sharedModel.getSource()}\n${shownOutputs(cell)}`)
      .join('\n');
  }

  /** Applies an event; whether it changed the notebook. Events are to be given one after the other. */
  async take({ event, data }: Told): Promise<boolean> {
    switch (event) {
      case 'cell.started':
        return this._start(data);
      case 'cell.output':
      case 'cell.snapshot':
        return this._live(event, data);
      case 'cell.completed':
        return this._complete(data);
      case 'cells.edited': {
        let changed = false;
        for (const edit of data.edits) {
          changed = (await this._edit(edit, data.author)) || changed;
        }
        return changed;
      }
      default:
        return false;
    }
  }

  private _start(data: Record<string, any>): boolean {
    const { cell_id: id, source, execution_id, metadata = {} } = data;
    const content: Content = { id, kind: 'code', source, outputs: [], execution_count: null, metadata };
    this._areas.set(execution_id, new OutputArea());
    let cell = this._cell(id);
    this._place(id, data.after);
    if (!cell) {
      cell = this._insert(content, data.after);
    } else if (cell.sharedModel.getSource() !== source) {
      if (this._typed(cell)) {
        // The user's words stay with what they gave; the agent's run is shown beside them.
        cell = this._keepBoth(cell, content);
        this._shownIn.set(execution_id, cell.id);
      } else {
        this._write(cell, source);
      }
    }
    if (cell.type === 'code') {
      const code = cell as ICodeCellModel;
      code.outputs.clear();
      code.sharedModel.execution_count = null;
      code.sharedModel.executionState = 'running';
    }
    this._known.set(id, { source, outputs: '[]' });
    return true;
  }

  private _live(event: string, data: Record<string, any>): boolean {
    const cell = this._cell(this._shownIn.get(data.execution_id) ?? data.cell_id);
    let area = this._areas.get(data.execution_id);
    if (!area && event === 'cell.snapshot') {
      // The notebook was loaded while the cell was running already.
      area = new OutputArea();
      this._areas.set(data.execution_id, area);
    }
    if (!area || cell?.type !== 'code') {
      return false;
    }
    if (event === 'cell.snapshot') {
      area.snapshot(data.outputs);
    } else {
      area.take(data);
    }
    put((cell as ICodeCellModel).outputs, area.outputs);
    return false;
  }

  private async _complete(data: Record<string, any>): Promise<boolean> {
    const outputs = inlined(data.outputs, await this.fetch(references(data.outputs)));
    this._areas.delete(data.execution_id);
    const cell = this._cell(this._shownIn.get(data.execution_id) ?? data.cell_id);
    if (cell?.type !== 'code') {
      return false;
    }
    const code = cell as ICodeCellModel;
    put(code.outputs, outputs);
    code.sharedModel.execution_count = data.execution_count;
    code.sharedModel.executionState = 'idle';
    const source = this._known.get(data.cell_id)?.source ?? '';
    this._known.set(data.cell_id, { source, outputs: shownOutputs(cell) });
    return true;
  }

  private async _edit(edit: Record<string, any>, author: string): Promise<boolean> {
    if (!edit.cell) {
      return edit.op === 'delete' ? this._delete(edit.cell_id) : this._move(edit.cell_id, edit.after);
    }
    const { outputs, ...content } = edit.cell as Content;
    const whole = { ...content, outputs: inlined(outputs, await this.fetch(references(outputs))) };
    const there = this._cell(content.id);
    const echo = author === 'user' && (this._sent.get(content.id)?.delete(content.source) ?? false);
    this._place(content.id, edit.after);
    let changed = false;
    if (there) {
      changed = !echo && this._replace(there, whole);
    } else if (!echo) {
      this._dropTwin(whole);
      changed = Boolean(this._insert(whole, edit.after));
    }
    this._known.set(content.id, { source: content.source, outputs: normal(whole) });
    return changed;
  }

  /** A cell that the user is typing in stays, as a new one of theirs, whoever deleted it. */
  private _delete(id: string): boolean {
    const cell = this._cell(id);
    const stays = !cell || this._typed(cell);
    this._known.delete(id);
    this._order = this._order.filter(known => known !== id);
    if (stays) {
      return false;
    }
    this._quietly(() => this._notebook.deleteCell(this._index(id)));
    return true;
  }

  private _move(id: string, after: string | null): boolean {
    this._order = this._order.filter(known => known !== id);
    this._place(id, after);
    const place = this._index(id);
    const behind = after === null ? 0 : this._index(after) + 1;
    const target = behind > place ? behind - 1 : behind;
    if (place === -1 || target === place) {
      return false;
    }
    this._quietly(() => this._notebook.moveCell(place, target));
    return true;
  }

  private _replace(cell: ICellModel, content: Content): boolean {
    const typed = this._typed(cell);
    if (cell.type !== content.kind) {
      if (!typed) {
        const place = this._index(cell.id);
        this._quietly(() => {
          this._notebook.deleteCell(place);
          this._notebook.insertCell(place, nbformat(content));
        });
      }
      return !typed;
    }
    const before = JSON.stringify(cell.toJSON());
    if (cell.sharedModel.getSource() !== content.source) {
      if (!typed) {
        this._write(cell, content.source);
      } else {
        this._keepBoth(cell, content);
        return true;
      }
    }
    const { [ATTACHMENTS]: attachments, ...metadata } = content.metadata;
    const wanted = { ...(cell.sharedModel.getMetadata() as Record<string, unknown>), ...metadata };
    if (metadata.tags === undefined) {
      delete wanted.tags;
    }
    if (JSON.stringify(wanted) !== JSON.stringify(cell.sharedModel.getMetadata())) {
      this._quietly(() => cell.sharedModel.setMetadata(wanted as any));
    }
    if (attachments && cell.type !== 'code') {
      (cell.sharedModel as any).setAttachments?.(attachments);
    }
    if (cell.type === 'code' && this._known.get(cell.id)?.outputs === shownOutputs(cell)) {
      const code = cell as ICodeCellModel;
      put(code.outputs, content.outputs);
      code.sharedModel.execution_count = content.execution_count;
    }
    return JSON.stringify(cell.toJSON()) !== before;
  }

  /** Both changed the cell: the user's words stay in place, the others' follow in a cell of their own. */
  private _keepBoth(cell: ICellModel, content: Content): ICellModel {
    const id = `${content.id.slice(0, 48)}${KEPT}`;
    const there = this._cell(id);
    if (there) {
      this._write(there, content.source);
      return there;
    }
    return this._insert({ ...content, id, metadata: { ...content.metadata, tags: [KEPT_TAG] } }, cell.id);
  }

  /** The server kept both as well, and named it by its content: one is enough. */
  private _dropTwin(content: Content): void {
    const [, name] = /^(.*-kept)-[0-9a-f]{8}$/.exec(content.id) ?? [];
    const twin = name ? this._cell(name) : undefined;
    if (twin && twin.sharedModel.getSource() === content.source) {
      this._quietly(() => this._notebook.deleteCell(this._index(twin.id)));
    }
  }

  private _write(cell: ICellModel, source: string): void {
    if (cell.sharedModel.getSource() !== source) {
      this._quietly(() => cell.sharedModel.setSource(source));
    }
  }

  private _insert(content: Content, after: string | null): ICellModel {
    const behind = after === null ? 0 : this._index(after) + 1;
    // The cell that it should follow is gone: it comes last.
    const place = after !== null && behind === 0 ? this._notebook.cells.length : behind;
    this._quietly(() => this._notebook.insertCell(place, nbformat(content)));
    return this.model.cells.get(place);
  }

  /** Notes where the log has a cell that is new to it; without `after` it is first, and last where that is unknown. */
  private _place(id: string, after: string | null | undefined): void {
    if (!this._order.includes(id)) {
      const behind = after ? this._order.indexOf(after) : -1;
      this._order.splice(after && behind === -1 ? this._order.length : behind + 1, 0, id);
    }
  }

  /** Changes that the user's undo does not take back. */
  private _quietly(change: () => void): void {
    this._notebook.transact(change, false);
  }

  /** Whether the user typed into a cell since the log knew it. */
  private _typed(cell: ICellModel): boolean {
    const known = this._known.get(cell.id);
    return known === undefined || known.source !== cell.sharedModel.getSource();
  }

  /** Whether a cell is as the log knows it. */
  private _same(id: string): boolean {
    const cell = this._cell(id);
    const known = this._known.get(id);
    return Boolean(
      cell && known && known.source === cell.sharedModel.getSource() && known.outputs === shownOutputs(cell)
    );
  }

  private _ids(): string[] {
    return this._notebook.cells.map(cell => cell.id);
  }

  private get _notebook() {
    return this.model.sharedModel;
  }

  private _cell(id: string): ICellModel | undefined {
    const place = this._index(id);
    return place === -1 ? undefined : this.model.cells.get(place);
  }

  private _index(id: string): number {
    return this._notebook.cells.findIndex(cell => cell.id === id);
  }

  /** Each cell as the log knows it: what differs from this was done here, and is the user's. */
  private _known: Map<string, Held>;
  /** The cells in the order that the log has them. */
  private _order: string[];
  /** What this tab saved, by cell. */
  private _sent = new Map<string, Set<string>>();
  /** Where a run is shown that is not shown in its own cell. */
  private _shownIn = new Map<string, string>();
  private _areas = new Map<string, OutputArea>();
}

/** Outputs as a cell of JupyterLab's holds them. */
function normal({ kind, outputs }: Content): string {
  return kind === 'code' ? JSON.stringify(new OutputAreaModel({ values: outputs as any }).toJSON()) : '[]';
}

function nbformat(content: Content): any {
  const { [ATTACHMENTS]: attachments, ...metadata } = content.metadata;
  const cell: Record<string, unknown> = { id: content.id, cell_type: content.kind, source: content.source, metadata };
  if (content.kind === 'code') {
    cell.outputs = content.outputs;
    cell.execution_count = content.execution_count;
  } else if (attachments) {
    cell.attachments = attachments;
  }
  return cell;
}
