/** The session's own kernel, for a notebook to be attached to. */

import type { ISessionContext } from '@jupyterlab/apputils';

import type { Api, Kernel } from '../api/client';

const LIVE = ['starting', 'idle', 'busy'];
const ASLEEP = ['none', 'hibernated'];

const idOf = (kernel: Kernel) => (LIVE.includes(kernel.status) ? kernel.id : null);

/** The id of the session's living kernel, or null; throws Problem. */
export async function livingKernel(api: Api, session: string): Promise<string | null> {
  return idOf(await api.kernel(session));
}

/**
 * The same, but a kernel that sleeps or was never started is brought there: without one, JupyterLab would give the
 * notebook an empty kernel of its own. Null where it runs on another server; throws Problem.
 */
export async function wokenKernel(api: Api, session: string): Promise<string | null> {
  const kernel = await api.kernel(session);
  return idOf(ASLEEP.includes(kernel.status) ? await api.act(session, 'wake') : kernel);
}

/** Attaches a notebook to the session's kernel, where that is to be had. */
export async function attach(context: ISessionContext, kernel: Promise<string | null>): Promise<void> {
  const id = await kernel.catch(error => {
    console.warn("Cellwright could not have the session's kernel:", error);
    return null;
  });
  await context.ready;
  if (id && !context.isDisposed && context.session?.kernel?.id !== id) {
    await context.changeKernel({ id }).catch(() => undefined);
  }
}
