/** Opens a session's notebook, attached to the session's own kernel. */

import { Notification } from '@jupyterlab/apputils';
import type { IDocumentManager } from '@jupyterlab/docmanager';
import type { NotebookPanel } from '@jupyterlab/notebook';

import type { Services } from '../components/services';
import type { SessionModel } from '../model/session';
import { livingKernel, wokenKernel } from './kernel';

interface Parts {
  documents: IDocumentManager;
  services: Services;
}

export async function openNotebook(
  session: SessionModel,
  { documents, services }: Parts,
  cell?: string
): Promise<void> {
  const path = session.row!.notebook_path;
  try {
    await documents.services.contents.get(path, { content: false });
  } catch {
    Notification.info(services.trans.__('The notebook is written with the first turn.'), { autoClose: 5000 });
    return;
  }
  const kernel = await (session.writable ? wokenKernel : livingKernel)(session.api, session.id).catch(error => {
    Notification.warning(services.trans.__("The session's kernel is not to be had: %1", error.message));
    return null;
  });
  const widget = documents.openOrReveal(path, 'Notebook', kernel ? { id: kernel } : undefined) as
    NotebookPanel | undefined;
  if (!widget) {
    return;
  }
  await widget.context.ready;
  await widget.revealed;
  if (cell) {
    const place = widget.content.widgets.findIndex(found => found.model.id === cell);
    if (place === -1) {
      Notification.info(services.trans.__('That cell is no longer in the notebook.'), { autoClose: 5000 });
      return;
    }
    widget.content.activeCellIndex = place;
    await widget.content.scrollToItem(place, 'center');
  }
}
