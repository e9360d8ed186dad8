/** What a notebook held when it was loaded: the log as of its revision, before anybody typed. */

import type { ICellModel, ICodeCellModel } from '@jupyterlab/cells';
import type { INotebookModel } from '@jupyterlab/notebook';

export interface Held {
  source: string;
  outputs: string;
}

const loaded = new WeakMap<INotebookModel, Map<string, Held>>();

export function shownOutputs(cell: ICellModel): string {
  return cell.type === 'code' ? JSON.stringify((cell as ICodeCellModel).outputs.toJSON()) : '[]';
}

/** Notes what a notebook holds; to be called as soon as it is loaded, and not later. */
export function note(model: INotebookModel): void {
  const held = new Map<string, Held>();
  for (const cell of model.cells) {
    held.set(cell.id, { source: cell.sharedModel.getSource(), outputs: shownOutputs(cell) });
  }
  loaded.set(model, held);
}

/** What was noted last. */
export function noted(model: INotebookModel): Map<string, Held> {
  if (!loaded.has(model)) {
    note(model);
  }
  return new Map(loaded.get(model));
}
