/** What `@` and `/` complete in the question. */

import type { ChatCommand, IChatCommandProvider, IInputModel } from '@jupyter/chat';
import { PathExt } from '@jupyterlab/coreutils';

import type { Services } from './components/services';
import { shape } from './components/words';
import type { SessionModel } from './model/session';

const MOST = 30;

/** Something that `/name` does. */
export interface SlashCommand {
  name: string;
  description: string;
  run: () => void;
}

export class Completions implements IChatCommandProvider {
  readonly id = 'cellwright';

  constructor(
    private readonly session: SessionModel,
    private readonly services: Services,
    private readonly commands: SlashCommand[]
  ) {}

  async listCommandCompletions(input: IInputModel): Promise<ChatCommand[]> {
    const word = input.currentWord ?? '';
    if (word.startsWith('/') && input.value.trimStart().startsWith(word)) {
      return this.commands
        .filter(command => `/${command.name}`.startsWith(word))
        .map(({ name, description }) => ({ name: `/${name}`, providerId: this.id, description, spaceOnAccept: true }));
    }
    if (!word.startsWith('@')) {
      return [];
    }
    const wanted = word.slice(1).toLowerCase();
    const found = [...(await this._variables()), ...(await this._files()), ...this._cells()];
    return found.filter(({ name }) => name.slice(1).toLowerCase().includes(wanted)).slice(0, MOST);
  }

  async onSubmit(input: IInputModel): Promise<void> {
    const [first] = input.value.trim().split(/\s+/);
    const command = this.commands.find(({ name }) => `/${name}` === first);
    if (command) {
      input.value = '';
      command.run();
      return;
    }
    // A file that is named goes along with the question.
    for (const [, name] of input.value.matchAll(/(?:^|\s)@(\S+)/g)) {
      const file = this._named.get(name!);
      if (file) {
        input.addAttachment?.({ type: 'file', value: file });
      }
    }
    input.value = input.value.replace(/(^|\s)@(\S+)/g, (whole, space, name) =>
      this._named.has(name) || this.session.fold.variables?.has(name) ? `${space}\`${name}\`` : whole
    );
  }

  private async _variables(): Promise<ChatCommand[]> {
    if (this.session.fold.variables === null) {
      await this.session.loadVariables().catch(() => undefined);
    }
    return [...(this.session.fold.variables?.values() ?? [])].map(variable => ({
      name: `@${variable.name}`,
      providerId: this.id,
      description: [variable.type, shape(variable.shape)].filter(Boolean).join(' '),
      spaceOnAccept: true
    }));
  }

  private async _files(): Promise<ChatCommand[]> {
    const files = await this.session.api.files(this.session.id).catch(() => []);
    this._named = new Map(files.map(file => [file.name, PathExt.join(this.session.row!.workspace, file.name)]));
    return files
      .filter(file => !file.name.endsWith('.ipynb'))
      .map(file => ({
        name: `@${file.name}`,
        providerId: this.id,
        description: this.services.trans.__('file'),
        spaceOnAccept: true
      }));
  }

  private _cells(): ChatCommand[] {
    return this.session.turns
      .flatMap(turn => turn.steps)
      .flatMap(step => (step.kind === 'cell' ? [step] : []))
      .reverse()
      .map(cell => ({
        name: `@cell:${cell.cellId.slice(0, 8)}`,
        providerId: this.id,
        description: cell.purpose || cell.source.split('\n')[0] || '',
        spaceOnAccept: true
      }));
  }

  private _named = new Map<string, string>();
}
