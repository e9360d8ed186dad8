/** A session as `@jupyter/chat` shows it: for each turn the question and, in its footsteps, the answer. */

import {
  AbstractChatContext,
  AbstractChatModel,
  type IChatContext,
  type IChatModel,
  type IMessageContent,
  type INewMessage,
  type IUser
} from '@jupyter/chat';

import { answerOf, type TurnView } from './turn';
import type { SessionModel } from './session';

export const ASSISTANT: IUser = { username: 'cellwright', display_name: 'Cellwright', bot: true };
const DRAFT = 'cellwright:draft:';

declare module '@jupyter/chat' {
  interface IMessageMetadata {
    /** The turn whose steps and end are shown with the message. */
    turn?: string;
    /** The question that was not taken yet. */
    pending?: string;
  }
}

export class ChatModel extends AbstractChatModel {
  constructor(
    readonly session: SessionModel,
    readonly user: IUser,
    options: IChatModel.IOptions
  ) {
    super({ ...options, id: `cellwright:${session.id}` });
    this.name = session.id;
    this.input.value = localStorage.getItem(DRAFT + session.id) ?? '';
    this.input.valueChanged.connect((_, value) => {
      if (value) {
        localStorage.setItem(DRAFT + session.id, value);
      } else {
        localStorage.removeItem(DRAFT + session.id);
      }
    });
    session.turnChanged.connect((_, turn) => this._show(turn));
    session.turnsReplaced.connect(() => this._replace());
    session.changed.connect(() => this._rest());
    this._replace();
    this.setReady();
  }

  /** Messages that are gone are not unread any more: the base class would look them up by their places, and fail. */
  messagesDeleted(index: number, count: number): void {
    const unread = this.unreadMessages; // Its own list, and no copy.
    unread.splice(0, unread.length, ...unread.filter(place => place < this.messages.length - count));
    super.messagesDeleted(index, count);
  }

  createChatContext(): IChatContext {
    return new ChatContext({ model: this });
  }

  sendMessage(message: INewMessage): void {
    const query = message.body.trim();
    if (!query) {
      return;
    }
    if (!this.session.writable) {
      queueMicrotask(() => (this.input.value = message.body)); // The input clears itself behind us.
      return;
    }
    const attached = this.input.attachments.filter(found => found.type === 'file').map(found => found.value);
    const cells = this.input.attachments.flatMap(found => (found.type === 'notebook' ? (found.cells ?? []) : []));
    const about = cells.length
      ? `\n\n(About ${cells.map(cell => `cell ${cell.id.slice(0, 8)}`).join(', ')} of the notebook.)`
      : '';
    this.input.clearAttachments();
    void this.session.ask(query + about, attached);
  }

  private _replace(): void {
    this.messagesDeleted(0, this.messages.length);
    this.messagesInserted(
      0,
      this.session.turns.flatMap(turn => this._of(turn))
    );
    this._shownPending = [];
    this._rest();
  }

  private _of(turn: TurnView): IMessageContent[] {
    const time = Date.parse(turn.at) / 1000;
    const question: IMessageContent = {
      type: 'msg',
      id: `${turn.id}:question`,
      body: turn.does === 'execute' ? fenced(turn.query) : turn.query,
      time,
      sender: this.user
    };
    if (turn.does === 'edit') {
      return [question]; // The user did it by themselves: nobody answers.
    }
    return [
      question,
      {
        type: 'msg',
        id: turn.id,
        body: answerOf(turn)?.text ?? '',
        time: time + 0.001,
        sender: ASSISTANT,
        metadata: { turn: turn.id }
      }
    ];
  }

  private _show(turn: TurnView): void {
    const held = this.messages.find(message => message.id === turn.id);
    if (!held && this.messages.some(message => message.id === `${turn.id}:question`)) {
      return;
    }
    if (!held) {
      this.messagesInserted(this.messages.length - this._shownPending.length, this._of(turn));
      return;
    }
    const body = answerOf(turn)?.text ?? '';
    if (held.body !== body) {
      held.update({ body });
    }
  }

  /** Questions on their way, at the end; and who writes. */
  private _rest(): void {
    const now = this.session.pending.map(pending => pending.id);
    if (now.join() !== this._shownPending.join()) {
      const kept = this.messages.length - this._shownPending.length;
      this.messagesDeleted(kept, this._shownPending.length);
      this.messagesInserted(
        kept,
        this.session.pending.map(pending => ({
          type: 'msg',
          id: pending.id,
          body: pending.query,
          time: Date.now() / 1000,
          sender: this.user,
          metadata: { pending: pending.id }
        }))
      );
      this._shownPending = now;
    }
  }

  private _shownPending: string[] = [];
}

class ChatContext extends AbstractChatContext {
  get users(): IUser[] {
    return [ASSISTANT];
  }
}

function fenced(source: string): string {
  return '```python\n' + source + '\n```';
}
