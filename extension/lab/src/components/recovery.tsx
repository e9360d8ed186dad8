/** After a kernel's death: what it held is offered back. */

import { undoIcon } from '@jupyterlab/ui-components';
import { useState } from 'react';

import type { SessionModel } from '../model/session';
import { IconButton } from './parts';
import { useServices, useSignal } from './services';

/** At the panel's foot, while the variables of a kernel that has ended are lost. */
export function Recovery({ session }: { session: SessionModel }): JSX.Element | null {
  useSignal(session.changed);
  const { trans, rewind } = useServices();
  const [busy, setBusy] = useState(false);
  const kernel = session.fold.kernel;
  const ended = kernel?.status === 'died' || kernel?.status === 'restarted';
  if (!kernel?.variablesLost || !(ended || kernel.woken) || !session.writable || session.fold.open.length > 0) {
    return null;
  }
  const recover = async (): Promise<void> => {
    setBusy(true);
    await rewind.recover(session);
    setBusy(false);
  };
  return (
    <div className="jp-Cellwright-wayback" role="status">
      <span>
        {busy
          ? trans.__('The variables are being brought back: stored ones, and cells that run again…')
          : ended
            ? trans.__('The kernel has ended, and its variables are gone.')
            : trans.__('Not all variables were stored when the session fell asleep.')}
      </span>
      {!busy && <IconButton icon={undoIcon} label={trans.__('Bring them back')} onClick={() => void recover()} text />}
    </div>
  );
}
