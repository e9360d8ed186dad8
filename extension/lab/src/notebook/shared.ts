/** An open notebook that jupyter-collaboration shares: the server puts the agent's work into it, and saves it. */

import type { DocumentRegistry } from '@jupyterlab/docregistry';
import type { INotebookModel } from '@jupyterlab/notebook';
import { UUID } from '@lumino/coreutils';

import type { Api } from '../api/client';
import { SessionSocket } from '../api/socket';
import { attach, livingKernel, wokenKernel } from './kernel';
import type { Mark } from './live';

const AGAIN_MS = 3_000;

export class SharedNotebook {
  constructor(
    api: Api,
    private readonly context: DocumentRegistry.IContext<INotebookModel>,
    readonly session: string,
    after: number
  ) {
    const path = context.localPath;
    this._socket = new SessionSocket(from => api.socket(session, from), after);
    const claim = () => {
      const said = { path, tab_id: this._tab, revision: 0, shared: true };
      this._socket.say({ type: 'document.claim', id: 'claim', ...said });
    };
    this._socket.linkChanged.connect((_, link) => link === 'open' && claim());
    this._socket.told.connect((_, { event }) => {
      if (event === 'problem') {
        // After a restart, the server may have our connection before it has the document.
        clearTimeout(this._again);
        this._again = setTimeout(claim, AGAIN_MS);
      } else if (event === 'kernel.changed') {
        void attach(context.sessionContext, livingKernel(api, session));
      }
    });
    this._socket.open();
    void attach(context.sessionContext, wokenKernel(api, session));
  }

  /** Whether the notebook's mark is of the session that it is shown for. */
  knows(mark: Mark | undefined): boolean {
    return mark?.session_id === this.session;
  }

  /** Waits until the server has all that was typed: it takes that in by itself before a turn begins. */
  async saveTyped(): Promise<void> {
    if (this.context.model.dirty) {
      await this.context.save();
    }
  }

  dispose(): void {
    clearTimeout(this._again);
    this._socket.close();
  }

  private readonly _tab = UUID.uuid4();
  private readonly _socket: SessionSocket;
  private _again: ReturnType<typeof setTimeout> | undefined;
}
