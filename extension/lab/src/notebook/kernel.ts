/** The session's own kernel, for a notebook to be attached to. */

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
