/** Going back: what it would do is shown first, and taking it back is one click. */

import { Dialog, InputDialog, Notification, ReactWidget, showDialog } from '@jupyterlab/apputils';
import type { TranslationBundle } from '@jupyterlab/translation';

import { Problem, type NamedPoint, type Rewound, type VariablesBack } from './api/client';
import { ServicesContext, type Services } from './components/services';
import { RewoundView, RiskyCells } from './components/rewound';
import type { SessionModel } from './model/session';
import type { TurnView } from './model/turn';

/** How many of the things that could not be brought back are told with their reasons. */
const TOLD = 3;

type Named = Pick<TurnView, 'id' | 'n'>;

export interface Rewinding {
  /** The session as it was at the end of a turn, after a look at what changes; `leads`: the turn led to here. */
  to(session: SessionModel, turn: Named, leads?: boolean): Promise<void>;
  /** The session as it was before a turn, with its question in the input. */
  askAgain(session: SessionModel, turn: TurnView): Promise<void>;
  /** The session as it was when a point was named. */
  toPoint(session: SessionModel, point: NamedPoint): Promise<void>;
  /** Gives the point where the session is a name. */
  namePoint(session: SessionModel): Promise<void>;
  /** A new session with what there was at the end of a turn. */
  branch(session: SessionModel, turn: Named): Promise<void>;
  /** One turn back. */
  undo(session: SessionModel): Promise<void>;
  /** Takes the last way back. */
  redo(session: SessionModel): Promise<void>;
  /** Brings back what a kernel that was lost held. Cells that look as if they reached outside are asked about first. */
  recover(session: SessionModel): Promise<void>;
}

export interface Place {
  services: () => Services;
  trans: TranslationBundle;
  open: (session: string) => Promise<unknown>;
  /** Puts a question into the input. */
  write: (query: string) => void;
  /** Takes that question out again, if it stands there as it was put. */
  unwrite: () => void;
}

export function rewinding({ services, trans, open, write, unwrite }: Place): Rewinding {
  const failed = (error: unknown) => {
    const words = error instanceof Problem || error instanceof Error ? error.message : String(error);
    if (error instanceof Problem && error.status === 409) {
      Notification.info(words, { autoClose: 8000 }); // Nothing went wrong: there is nothing to be done, or not now.
    } else {
      Notification.error(words, { autoClose: 8000 });
    }
  };
  const going = async <T,>(session: SessionModel, go: () => Promise<T>): Promise<T> => {
    session.moving = trans.__('On the way: notebook, files and variables are brought back…');
    try {
      return await go();
    } finally {
      session.moving = null;
    }
  };
  const asked = async (
    session: SessionModel,
    title: string,
    move: (more: { dry_run?: boolean }) => Promise<Rewound>,
    button: string
  ): Promise<boolean> => {
    try {
      await session.beforeAsking?.();
      const foretold = await move({ dry_run: true });
      const answer = await showDialog({
        title,
        body: shown(<RewoundView rewound={foretold} foretold />, services()),
        buttons: [Dialog.cancelButton({ label: trans.__('Cancel') }), Dialog.okButton({ label: button })]
      });
      if (!answer.button.accept) {
        return false;
      }
      tell(await going(session, () => move({})), trans);
      return true;
    } catch (error) {
      failed(error);
      return false;
    }
  };
  const move = (session: SessionModel, title: string, body: Record<string, unknown>, button: string) =>
    asked(session, title, more => session.api.move(session.id, 'undo', { ...body, ...more }), button);
  return {
    to: async (session, turn, leads = true) => {
      const title = leads ? trans.__('Rewind to turn %1?', turn.n) : trans.__('Come back to turn %1?', turn.n);
      await move(session, title, { to_turn: turn.id }, leads ? trans.__('Rewind') : trans.__('Come back'));
    },
    toPoint: async (session, point) => {
      const go = (more: { dry_run?: boolean }) => session.api.restore(point.id, more);
      await asked(session, trans.__('Go to “%1”?', point.label), go, trans.__('Go there'));
    },
    namePoint: async session => {
      const answer = await InputDialog.getText({
        title: trans.__('Name this point'),
        label: trans.__('A name to find it again by: all can be brought back as it is now.'),
        okLabel: trans.__('Name it')
      });
      const label = answer.value?.trim();
      if (!answer.button.accept || !label) {
        return;
      }
      try {
        await session.beforeAsking?.();
        await session.api.namePoint(session.id, label);
      } catch (error) {
        failed(error);
      }
    },
    undo: async session => {
      await move(session, trans.__('Take the last turn back?'), {}, trans.__('Take it back'));
    },
    askAgain: async (session, turn) => {
      const before = { before_turn: turn.id };
      if (await move(session, trans.__('Ask turn %1 again?', turn.n), before, trans.__('Rewind and edit'))) {
        write(turn.query);
      }
    },
    branch: async (session, turn) => {
      try {
        await session.beforeAsking?.();
        const made = await session.api.branch(session.id, { from_turn: turn.id });
        await open(made.id);
      } catch (error) {
        failed(error);
      }
    },
    redo: async session => {
      try {
        await session.beforeAsking?.();
        tell(await going(session, () => session.api.move(session.id, 'redo', {})), trans);
        unwrite();
      } catch (error) {
        failed(error);
      }
    },
    recover: async session => {
      try {
        const foretold = await session.api.recover(session.id, { dry_run: true });
        const risky = foretold.ran_again.filter(again => again.verdict === 'skipped');
        let rerun: 'safe' | 'all' = 'safe';
        if (risky.length > 0) {
          const answer = await showDialog({
            title: trans._n(
              'Run %1 cell again that reaches outside?',
              'Run %1 cells again that reach outside?',
              risky.length
            ),
            body: shown(<RiskyCells cells={risky} />, services()),
            buttons: [
              Dialog.cancelButton({ label: trans.__('Cancel') }),
              Dialog.okButton({ label: trans.__('Leave out') }),
              Dialog.warnButton({ label: trans.__('Run again') })
            ],
            defaultButton: 1
          });
          if (!answer.button.accept) {
            return;
          }
          rerun = answer.button.displayType === 'warn' ? 'all' : 'safe';
        }
        told(await session.api.recover(session.id, { rerun }), [], trans);
      } catch (error) {
        failed(error);
      }
    }
  };
}

function shown(what: JSX.Element, services: Services): ReactWidget {
  const widget = ReactWidget.create(<ServicesContext.Provider value={services}>{what}</ServicesContext.Provider>);
  widget.addClass('jp-Cellwright-rewound');
  return widget;
}

/** What could not be brought back must be seen; all else is to be seen in the panel. */
function tell(done: Rewound, trans: TranslationBundle): void {
  told(done.variables, done.files.left, trans);
}

function told(back: VariablesBack, stayed: { name: string; reason: string }[], trans: TranslationBundle): void {
  const lost = [...back.missing, ...stayed];
  if (lost.length > 0) {
    const named = lost.slice(0, TOLD).map(({ name, reason }) => (reason ? `${name} (${reason})` : name));
    const more = lost.length > TOLD ? trans.__(', and %1 more', lost.length - TOLD) : '';
    Notification.warning(trans.__('Not as it was: %1', named.join('; ') + more), { autoClose: 10_000 });
  }
}
