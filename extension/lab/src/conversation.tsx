/** A session's chat: `@jupyter/chat`'s widget, with our turns between its questions and answers. */

import {
  ChatCommandRegistry,
  ChatWidget,
  InputToolbarRegistry,
  MessageFooterRegistry,
  MessagePreambleRegistry,
  type IMessageContent
} from '@jupyter/chat';
import type { IThemeManager } from '@jupyterlab/apputils';
import { stopIcon } from '@jupyterlab/ui-components';

import { IconButton } from './components/parts';
import { ServicesContext, useSignal, type Services } from './components/services';
import { PendingEnd, TurnEnd, TurnSteps } from './components/turn';
import { Completions, type SlashCommand } from './completions';
import type { ChatModel } from './model/chat';
import type { SessionModel } from './model/session';

export function chatWidget(
  chat: ChatModel,
  services: Services,
  themes: IThemeManager | null,
  commands: SlashCommand[]
): ChatWidget {
  const { session } = chat;
  const completions = new ChatCommandRegistry();
  completions.addProvider(new Completions(session, services, commands));
  return new ChatWidget({
    model: chat,
    rmRegistry: services.rendermime,
    themeManager: themes,
    chatCommandRegistry: completions,
    inputToolbarRegistry: toolbar(session, services),
    messagePreambleRegistry: preambles(session, services),
    messageFooterRegistry: footers(session, services),
    area: 'sidebar'
  });
}

/** The buttons at the question: the chat's own, and Stop. */
function toolbar(session: SessionModel, { trans }: Services): InputToolbarRegistry {
  const registry = InputToolbarRegistry.defaultToolbarRegistry();
  const Stop = () => {
    useSignal(session.changed);
    const idle = session.fold.open.length === 0;
    return <IconButton icon={stopIcon} label={trans.__('Stop')} disabled={idle} onClick={() => void session.stop()} />;
  };
  registry.addItem('stop', { element: Stop, position: 90 });
  return registry;
}

/** Before a message: the way to earlier turns; before an answer: the steps that led to it. */
function preambles(session: SessionModel, services: Services): MessagePreambleRegistry {
  const registry = new MessagePreambleRegistry();
  const Earlier = ({ message }: { message: IMessageContent }) => {
    const first = session.turns[0];
    if (!first || message.id !== `${first.id}:question` || session.firstTurn <= 1) {
      return null;
    }
    return (
      <button className="jp-Cellwright-link" onClick={() => void session.earlier()}>
        {services.trans.__('Show earlier turns')}
      </button>
    );
  };
  const Steps = ({ message }: { message: IMessageContent }) => {
    const turn = session.fold.turn(message.metadata?.turn);
    return turn ? (
      <ServicesContext.Provider value={services}>
        <TurnSteps session={session} turn={turn} />
      </ServicesContext.Provider>
    ) : null;
  };
  registry.addComponent(Earlier);
  registry.addComponent(Steps);
  return registry;
}

/** Behind an answer: what the turn made and how it ended; behind a question that was not taken: why. */
function footers(session: SessionModel, services: Services): MessageFooterRegistry {
  const registry = new MessageFooterRegistry();
  const End = ({ message }: { message: IMessageContent }) => {
    const turn = session.fold.turn(message.metadata?.turn);
    const pending = session.pending.find(found => found.id === message.metadata?.pending);
    return (
      <ServicesContext.Provider value={services}>
        {turn && <TurnEnd session={session} turn={turn} />}
        {pending && <PendingEnd pending={pending} session={session} />}
      </ServicesContext.Provider>
    );
  };
  registry.addSection({ component: End, position: 'left' });
  return registry;
}
