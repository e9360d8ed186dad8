/** What components need of JupyterLab and of the panel that they stand in. */

import type { IRenderMimeRegistry } from '@jupyterlab/rendermime';
import type { TranslationBundle } from '@jupyterlab/translation';
import { createContext, useContext, useEffect, useReducer } from 'react';
import type { ISignal } from '@lumino/signaling';

import type { SessionModel } from '../model/session';
import type { Rewinding } from '../rewind';

export interface Services {
  rendermime: IRenderMimeRegistry;
  trans: TranslationBundle;
  /** Opens the session's notebook, at a cell if one is named. */
  openNotebook(session: SessionModel, cell?: string): Promise<void>;
  /** Puts code into the notebook that is in front, below its active cell. */
  insertCode(source: string): Promise<void>;
  rewind: Rewinding;
}

export const ServicesContext = createContext<Services | null>(null);

export function useServices(): Services {
  const services = useContext(ServicesContext);
  if (services === null) {
    throw new Error('This component stands outside of a panel.');
  }
  return services;
}

/** Renders again whenever one of the signals tells of something that `about` accepts. */
export function useSignal<T>(signal: ISignal<any, T> | undefined, about: (told: T) => boolean = () => true): void {
  const [, again] = useReducer((count: number) => count + 1, 0);
  useEffect(() => {
    const hear = (_: unknown, told: T) => {
      if (about(told)) {
        again();
      }
    };
    signal?.connect(hear);
    return () => {
      signal?.disconnect(hear);
    };
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [signal]);
}
