/** The panel: one session's chat, variables and artifacts, and the list of sessions. Loaded when first shown. */

import type { ChatWidget, IActiveCellManager } from '@jupyter/chat';
import { Notification, ReactWidget, type IThemeManager } from '@jupyterlab/apputils';
import type { IDocumentManager } from '@jupyterlab/docmanager';
import type { INotebookTracker } from '@jupyterlab/notebook';
import type { ISettingRegistry } from '@jupyterlab/settingregistry';
import { Panel, PanelLayout, type Menu, Widget } from '@lumino/widgets';
import { Signal, type ISignal } from '@lumino/signaling';
import type { Message } from '@lumino/messaging';

import { Problem, type Api, type Approval } from './api/client';
import { Gallery } from './components/artifacts';
import { History } from './components/history';
import { Header, Suggestions, Welcome, type View } from './components/header';
import { ServicesContext, useSignal, type Services } from './components/services';
import { Recovery } from './components/recovery';
import { WayBack } from './components/rewound';
import { Sessions } from './components/sessions';
import { Variables } from './components/variables';
import { ChatModel } from './model/chat';
import { SessionModel } from './model/session';
import { SessionList } from './model/sessions';
import type { SlashCommand } from './completions';
import { chatWidget } from './conversation';
import type { LiveNotebooks } from './notebook/live';
import { Follow } from './follow';
import { openNotebook } from './notebook/open';

export interface PanelOptions {
  api: Api;
  services: Services;
  themes: IThemeManager | null;
  documents: IDocumentManager;
  notebooks: INotebookTracker | null;
  cells: IActiveCellManager | null;
  follow: (tracker: INotebookTracker) => Promise<LiveNotebooks>;
  settings: ISettingRegistry.ISettings | null;
  user: string;
  menu: () => Menu;
}

export class CellwrightPanel extends Widget {
  constructor(private readonly options: PanelOptions) {
    super();
    this.addClass('jp-Cellwright');
    this.list = new SessionList(options.api);
    this.list.deleted.connect((_, id) => {
      if (this.session?.id === id) {
        this._close();
        this.showView('sessions');
      }
    });
    const layout = new PanelLayout();
    this.layout = layout;
    this._header = this._react(() => (
      <Header
        session={this.session}
        view={this.view}
        show={view => this.showView(view)}
        create={() => void this.create()}
        menu={options.menu}
      />
    ));
    this._body.addClass('jp-Cellwright-body');
    this._live.className = 'jp-Cellwright-unseen';
    this._live.setAttribute('aria-live', 'polite');
    this.node.append(this._live);
    layout.addWidget(this._header);
    layout.addWidget(
      this._react(() => (this.session && this.view === 'chat' ? <Welcome session={this.session} /> : <></>))
    );
    layout.addWidget(this._body);
    layout.addWidget(
      this._react(() =>
        this.session && this.view !== 'sessions' ? (
          <>
            <WayBack session={this.session} />
            <Recovery session={this.session} key={this.session.id} />
            {this.view === 'chat' && <Suggestions session={this.session} />}
          </>
        ) : (
          <></>
        )
      )
    );
    this._sessions = this._react(() => (
      <Sessions
        list={this.list}
        current={this.session?.id ?? null}
        open={id => void this.open(id)}
        create={() => void this.create()}
      />
    ));
    this._body.addWidget(this._sessions);
    this.node.addEventListener('paste', this, true);
    this.node.addEventListener('drop', this, true);
    this.node.addEventListener('dragover', this, true);
  }

  readonly list: SessionList;
  session: SessionModel | null = null;
  chat: ChatModel | null = null;
  view: View = 'sessions';

  /** Another session or view is shown. */
  get shownChanged(): ISignal<this, void> {
    return this._shownChanged;
  }

  /** Opens the session that was shown last, or the newest, or the list where there is none. */
  async restore(id: string | null, view: View): Promise<void> {
    if (id !== null && (await this.open(id, view === 'sessions' ? 'chat' : view, false))) {
      return;
    }
    await this.list.refresh().catch(() => undefined);
    if (this.session === null) {
      this.showView('sessions');
    }
  }

  /** Shows a session; false, with the list and why, where it cannot be had. `focus`: the user asked for it. */
  async open(id: string, view: View = 'chat', focus = true): Promise<boolean> {
    const opening = (this._opening += 1);
    if (this.session?.id !== id) {
      const session = new SessionModel(this.options.api, id);
      try {
        await session.open();
      } catch (error) {
        session.dispose();
        if (opening === this._opening) {
          this.list.failed(error);
          this.showView('sessions');
        }
        return false;
      }
      if (opening !== this._opening) {
        session.dispose();
        return false; // Another was asked for meanwhile.
      }
      this._close();
      this._put(session);
    }
    this.showView(view);
    if (focus) {
      this.focusInput();
    }
    return true;
  }

  async create(): Promise<SessionModel | null> {
    try {
      const made = await this.options.api.create();
      void this.list.refresh();
      return (await this.open(made.id)) ? this.session : null;
    } catch (error) {
      this.list.failed(error);
      this.showView('sessions');
      return null;
    }
  }

  /** The session that is shown; made where there is none. */
  async current(): Promise<SessionModel | null> {
    return this.session ?? (await this.create());
  }

  showView(view: View): void {
    this.view = this.session === null ? 'sessions' : view;
    for (const [name, widget] of this._views()) {
      widget.setHidden(name !== this.view);
    }
    if (this.view === 'sessions') {
      void this.list.refresh().catch(() => undefined);
    }
    this._shownChanged.emit();
  }

  handleEvent(event: Event): void {
    if (event.type === 'dragover') {
      if ((event as DragEvent).dataTransfer?.types.includes('Files')) {
        event.preventDefault();
      }
      return;
    }
    const transfer =
      event.type === 'paste' ? (event as ClipboardEvent).clipboardData : (event as DragEvent).dataTransfer;
    const files = [...(transfer?.files ?? [])];
    if (files.length > 0) {
      event.preventDefault();
      event.stopPropagation();
      void this.attach(files);
    }
  }

  /** Brings files of the user's machine into the session, and into the question. */
  async attach(files: File[]): Promise<void> {
    const session = await this.current();
    if (session === null) {
      return;
    }
    for (const file of files) {
      const name = file.name === 'image.png' ? `pasted-${Date.now()}.png` : file.name;
      try {
        const { file_name } = await this.options.api.upload(session.id, file, name);
        this.attachPath(`${session.row!.workspace}/${file_name}`);
      } catch (error) {
        Notification.error(`${name}: ${(error as Error).message}`, { autoClose: 8000 });
      }
    }
  }

  /** Puts a file of JupyterLab's tree into the question. */
  attachPath(path: string): void {
    this.chat?.input.addAttachment?.({ type: 'file', value: path });
    this.focusInput();
  }

  /** Puts a question into the input, for the user to change and send. */
  write(query: string): void {
    if (this.chat && this.session) {
      const { input } = this.chat;
      const draft = this._written ? this._written.draft : input.value;
      const written = (this._written = { query, draft });
      input.value = query;
      this.focusInput();
      const asked = (): void => {
        session.asked.disconnect(asked);
        setTimeout(() => this._written === written && this._unwritten(''));
      };
      const session = this.session;
      session.asked.connect(asked);
    }
  }

  /** Takes such a question out again where it stands unchanged; what was being written before comes back. */
  unwrite(): void {
    this._unwritten(this._written?.query);
  }

  /** Puts the cursor into the question, as soon as that is drawn. */
  focusInput(frames = 60): void {
    const chat = this._chat;
    requestAnimationFrame(() => {
      const field = chat?.node.querySelector('textarea');
      field?.focus();
      if (chat === this._chat && frames > 0 && document.activeElement !== field) {
        this.focusInput(frames - 1);
      }
    });
  }

  /** Opens a session's notebook, attached to the session's kernel, at a cell if one is named. */
  async openNotebook(session = this.session, cell?: string): Promise<void> {
    if (session) {
      await openNotebook(session, this.options, cell);
    }
  }

  async undo(): Promise<void> {
    await (this.session && this.options.services.rewind.undo(this.session));
  }

  async recover(): Promise<void> {
    await (this.session && this.options.services.rewind.recover(this.session));
  }

  async redo(): Promise<void> {
    await (this.session && this.options.services.rewind.redo(this.session));
  }

  dispose(): void {
    this._close();
    this.list.dispose();
    super.dispose();
  }

  protected onAfterShow(message: Message): void {
    super.onAfterShow(message);
    this.session?.wake();
    this.focusInput();
  }

  /** Puts the draft back that a question took the place of, where the input holds just `held`. */
  private _unwritten(held: string | undefined): void {
    if (this.chat && this._written && this.chat.input.value === held) {
      this.chat.input.value = this._written.draft;
      this._written = null;
    }
  }

  private _close(): void {
    this._written = null;
    this._follow?.dispose();
    this._chat?.dispose();
    this._variables?.dispose();
    this._artifacts?.dispose();
    this._history?.dispose();
    this.chat?.dispose();
    this.session?.dispose();
    this._chat = this._variables = this._artifacts = this._history = null;
    this.session = this.chat = null;
  }

  private _put(session: SessionModel): void {
    const { services, themes, documents, cells, settings } = this.options;
    const sendWithShiftEnter = Boolean(settings?.composite.sendWithShiftEnter);
    const user = { username: this.options.user || 'you', display_name: services.trans.__('You') };
    const chat = new ChatModel(session, user, {
      config: { sendWithShiftEnter, sendTypingNotification: false, stackMessages: false, unreadNotifications: false },
      activeCellManager: cells,
      documentManager: documents
    });
    settings?.changed.connect(() => {
      chat.config = { sendWithShiftEnter: Boolean(settings.composite.sendWithShiftEnter) };
    });
    session.approval = () => (settings?.composite.approval as Approval) || undefined;
    session.beforeAsking = async () => {
      const { notebooks, follow } = this.options;
      await (notebooks && (await follow(notebooks)).save(session.id));
    };
    session.download = async path => {
      const response = await fetch(await documents.services.contents.getDownloadUrl(path));
      if (!response.ok) {
        throw await Problem.of(response);
      }
      return response.blob();
    };
    this.session = session;
    this.chat = chat;
    this._chat = chatWidget(chat, services, themes, this._slash(session));
    const follow = (this._follow = new Follow(this._chat.node));
    for (const signal of [session.asked, session.moved]) {
      signal.connect(() => follow.toEnd(true));
    }
    // Drawn only while they are looked at: each asks the server for what it shows.
    this._variables = this._react(() => (this.view === 'variables' ? <Variables session={session} /> : <></>));
    this._artifacts = this._react(() => (this.view === 'artifacts' ? <Gallery session={session} /> : <></>));
    this._history = this._react(() => (this.view === 'history' ? <History session={session} /> : <></>));
    for (const widget of [this._chat, this._variables, this._artifacts, this._history]) {
      this._body.addWidget(widget);
    }
    session.told.connect((_, told) => {
      const words: Record<string, string> = {
        'turn.started': this.options.services.trans.__('Cellwright is at work'),
        'turn.completed': this.options.services.trans.__('The answer is there'),
        'turn.failed': this.options.services.trans.__('The turn failed'),
        'approval.requested': this.options.services.trans.__('A cell waits for your word')
      };
      this._live.textContent = words[told.event] ?? this._live.textContent;
      if (told.event.startsWith('turn.') || told.event === 'title.changed') {
        void this.list.refresh().catch(() => undefined);
      }
    });
    session.changed.connect(() => {
      if (session.link === 'gone' && this.session === session) {
        this._close();
        this.showView('sessions');
      }
    });
  }

  private _slash(session: SessionModel): SlashCommand[] {
    const { trans, rewind } = this.options.services;
    const last = () => session.turns.filter(turn => turn.does === 'ask').at(-1);
    return [
      { name: 'new', description: trans.__('Begin another chat'), run: () => void this.create() },
      { name: 'stop', description: trans.__('Stop the agent'), run: () => void session.stop() },
      {
        name: 'again',
        description: trans.__('Ask the last question again'),
        run: () => void (last() && session.ask(last()!.query, [], last()!.files))
      },
      { name: 'undo', description: trans.__('Take the last turn back'), run: () => void rewind.undo(session) },
      { name: 'redo', description: trans.__('Take an undo back'), run: () => void rewind.redo(session) },
      { name: 'notebook', description: trans.__('Open the notebook'), run: () => void this.openNotebook(session) },
      { name: 'variables', description: trans.__('Show the variables'), run: () => this.showView('variables') },
      { name: 'artifacts', description: trans.__('Show the artifacts'), run: () => this.showView('artifacts') },
      { name: 'history', description: trans.__('Show all turns'), run: () => this.showView('history') },
      { name: 'sessions', description: trans.__('Show all sessions'), run: () => this.showView('sessions') },
      {
        name: 'restart',
        description: trans.__('Restart the kernel'),
        run: () => void session.api.act(session.id, 'restart')
      }
    ];
  }

  private _react(draw: () => JSX.Element): ReactWidget {
    return ReactWidget.create(<Redrawn services={this.options.services} changed={this._shownChanged} draw={draw} />);
  }

  private *_views(): Iterable<[View, Widget]> {
    yield ['sessions', this._sessions];
    if (this._chat && this._variables && this._artifacts && this._history) {
      yield ['chat', this._chat];
      yield ['variables', this._variables];
      yield ['artifacts', this._artifacts];
      yield ['history', this._history];
    }
  }

  private _shownChanged = new Signal<this, void>(this);
  private _header: ReactWidget;
  private _body = new Panel();
  private _live = document.createElement('div');
  private _sessions: ReactWidget;
  private _chat: ChatWidget | null = null;
  private _opening = 0;
  /** A question that was put into the input for the user, and the draft that stood there. */
  private _written: { query: string; draft: string } | null = null;
  private _follow: Follow | null = null;
  private _variables: ReactWidget | null = null;
  private _artifacts: ReactWidget | null = null;
  private _history: ReactWidget | null = null;
}

/** Draws again when another session or view is shown. */
function Redrawn(props: { services: Services; changed: ISignal<any, void>; draw: () => JSX.Element }): JSX.Element {
  useSignal(props.changed);
  return <ServicesContext.Provider value={props.services}>{props.draw()}</ServicesContext.Provider>;
}
