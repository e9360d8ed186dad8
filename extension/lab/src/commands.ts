/** What can be done from menus, the palette, the launcher and the keyboard. */

import type { JupyterFrontEnd } from '@jupyterlab/application';
import { Clipboard, Notification } from '@jupyterlab/apputils';
import type { CodeCell } from '@jupyterlab/cells';
import type { IFileBrowserFactory } from '@jupyterlab/filebrowser';
import type { INotebookTracker } from '@jupyterlab/notebook';
import type { TranslationBundle } from '@jupyterlab/translation';

import { cellwrightIcon } from './icons';
import type { Sidebar } from './sidebar';

export namespace Commands {
  export const show = 'cellwright:show';
  export const create = 'cellwright:new-chat';
  export const notebook = 'cellwright:open-notebook';
  export const stop = 'cellwright:stop';
  export const undo = 'cellwright:undo';
  export const redo = 'cellwright:redo';
  export const recover = 'cellwright:recover-variables';
  export const explain = 'cellwright:explain-cell';
  export const fix = 'cellwright:fix-cell';
  export const output = 'cellwright:ask-output';
  export const attach = 'cellwright:attach-file';
  export const adopt = 'cellwright:adopt';
  export const adoptCurrent = 'cellwright:adopt-current';
  export const restart = 'cellwright:restart-kernel';
  export const rename = 'cellwright:rename';
  export const link = 'cellwright:copy-id';
  /** `args.format`: one of EXPORTS. */
  export const download = 'cellwright:download';
}

interface Parts {
  app: JupyterFrontEnd;
  sidebar: Sidebar;
  notebooks: INotebookTracker | null;
  files: IFileBrowserFactory | null;
  trans: TranslationBundle;
}

/** What a session can leave as. */
export const EXPORTS = ['ipynb', 'html', 'py', 'md'] as const;

const OUTPUT_CHARACTERS = 4_000;

export function addCommands({ app, sidebar, notebooks, files, trans }: Parts): void {
  const { commands } = app;
  const session = () => sidebar.panel?.session ?? null;
  /** The cell that the menu was opened on, or the active one. */
  const cell = (args: { here?: unknown }): CodeCell | null => {
    let found = notebooks?.activeCell ?? null;
    if (args.here) {
      const node = app.contextMenuHitTest(hit => hit.classList.contains('jp-CodeCell'));
      found = notebooks?.currentWidget?.content.widgets.find(widget => widget.node === node) ?? found;
    }
    return found?.model.type === 'code' ? (found as CodeCell) : null;
  };
  const selected = () =>
    [...(files?.tracker.currentWidget?.selectedItems() ?? [])].filter(item => item.type !== 'directory');
  const failed = (error: unknown) => Notification.error((error as Error).message, { autoClose: 8000 });

  /** Puts a question about the active cell into the input, for the user to send. */
  const ask = async (about: CodeCell | null, question: string, what: 'source' | 'error' | 'output') => {
    if (!about) {
      return;
    }
    const panel = await sidebar.reveal();
    const source = about.model.sharedModel.getSource();
    const known = await panel.current();
    const path = notebooks?.currentWidget?.context.path;
    const ours = known?.row?.notebook_path === path;
    const parts = [
      question,
      ours ? trans.__('(cell %1)', about.model.id.slice(0, 8)) : '',
      '```python\n' + source + '\n```'
    ];
    if (what !== 'source') {
      const text = outputText(about, what === 'error');
      if (text) {
        parts.push('```\n' + text.slice(-OUTPUT_CHARACTERS) + '\n```');
      }
    }
    if (panel.chat) {
      panel.chat.input.value = parts.filter(Boolean).join('\n\n');
      panel.focusInput();
    }
  };

  const adopt = async (path: string) => {
    try {
      const panel = await sidebar.reveal();
      const open = notebooks?.filter(shown => shown.context.localPath === path) ?? [];
      await Promise.all(open.filter(shown => shown.context.model.dirty).map(shown => shown.context.save()));
      const made = await panel.list.api.create({ notebook_path: path });
      for (const shown of open) {
        shown.model?.setMetadata('cellwright', { session_id: made.id, revision: made.revision });
      }
      if (notebooks && open.length > 0) {
        const live = await sidebar.follow(notebooks);
        await Promise.all(open.map(shown => live.bind(shown)));
      }
      await panel.open(made.id);
      void panel.list.refresh();
    } catch (error) {
      failed(error);
    }
  };

  commands.addCommand(Commands.show, {
    label: trans.__('Show Cellwright'),
    icon: cellwrightIcon,
    execute: async () => {
      await sidebar.reveal();
    }
  });
  commands.addCommand(Commands.create, {
    label: args => (args.isLauncher || args.cwd ? trans.__('Cellwright') : trans.__('New Cellwright Chat')),
    caption: trans.__('Ask an agent that works in a notebook'),
    icon: cellwrightIcon,
    execute: async () => {
      await (await sidebar.reveal()).create();
    }
  });
  commands.addCommand(Commands.notebook, {
    label: trans.__("Open the Session's Notebook"),
    isEnabled: () => session() !== null,
    execute: () => sidebar.panel?.openNotebook()
  });
  commands.addCommand(Commands.stop, {
    label: trans.__('Stop the Agent'),
    isEnabled: () => (session()?.fold.open.length ?? 0) > 0,
    execute: () => session()?.stop()
  });
  commands.addCommand(Commands.undo, {
    label: trans.__('Take the Last Turn Back'),
    isEnabled: () => (session()?.writable ?? false) && (session()?.row?.head_turn ?? 0) > 0,
    execute: () => sidebar.panel?.undo()
  });
  commands.addCommand(Commands.redo, {
    label: trans.__('Redo the Turn That Was Taken Back'),
    isEnabled: () => (session()?.writable ?? false) && (session()?.row?.can_redo ?? false),
    execute: () => sidebar.panel?.redo()
  });
  commands.addCommand(Commands.recover, {
    label: trans.__('Bring Lost Variables Back'),
    isEnabled: () => session() !== null && (session()?.writable ?? false),
    execute: () => sidebar.panel?.recover()
  });
  commands.addCommand(Commands.restart, {
    label: trans.__("Restart the Session's Kernel"),
    isEnabled: () => session() !== null && (session()?.writable ?? false),
    execute: () => {
      const shown = session();
      return shown?.api.act(shown.id, 'restart').catch(failed);
    }
  });
  commands.addCommand(Commands.link, {
    label: trans.__("Copy the Session's Id"),
    isEnabled: () => session() !== null,
    execute: () => Clipboard.copyToSystem(session()?.id ?? '')
  });
  const downloads: Record<string, string> = {
    ipynb: trans.__('Download the Notebook'),
    html: trans.__('Download as a Page'),
    py: trans.__('Download as a Script'),
    md: trans.__('Download as Markdown')
  };
  commands.addCommand(Commands.download, {
    label: args => downloads[String(args.format)] ?? trans.__('Download the Session'),
    isEnabled: () => session() !== null,
    execute: args => {
      const shown = session();
      if (shown) {
        const link = document.createElement('a');
        link.href = shown.api.link(`sessions/${shown.id}/export`, { format: String(args.format ?? 'ipynb') });
        link.download = '';
        link.click();
      }
    }
  });
  commands.addCommand(Commands.explain, {
    label: trans.__('Explain This Cell'),
    icon: cellwrightIcon,
    isEnabled: args => cell(args) !== null,
    execute: args => ask(cell(args), trans.__('Explain this cell:'), 'source')
  });
  commands.addCommand(Commands.fix, {
    label: trans.__('Fix This Cell'),
    isEnabled: args => cell(args) !== null,
    execute: args => ask(cell(args), trans.__('This cell fails. Find out why, and fix it:'), 'error')
  });
  commands.addCommand(Commands.output, {
    label: trans.__('Ask About This Output'),
    isEnabled: args => (cell(args)?.model.outputs.length ?? 0) > 0,
    execute: args => ask(cell(args), trans.__('About what this cell shows: '), 'output')
  });
  commands.addCommand(Commands.attach, {
    label: trans.__('Ask Cellwright About This File'),
    icon: cellwrightIcon,
    isVisible: () => selected().length > 0,
    execute: async () => {
      const items = selected();
      const panel = await sidebar.reveal();
      await panel.current();
      items.forEach(item => panel.attachPath(item.path));
    }
  });
  commands.addCommand(Commands.adopt, {
    label: trans.__('Work in This Notebook With Cellwright'),
    isVisible: () => selected().some(item => item.type === 'notebook'),
    execute: () => adopt(selected().find(item => item.type === 'notebook')!.path)
  });
  commands.addCommand(Commands.adoptCurrent, {
    label: trans.__('Work in the Open Notebook With Cellwright'),
    isEnabled: () => Boolean(notebooks?.currentWidget),
    execute: async () => {
      const shown = notebooks?.currentWidget;
      if (shown) {
        await adopt(shown.context.localPath);
      }
    }
  });
}

function outputText(cell: CodeCell, errorsOnly: boolean): string {
  const texts = cell.model.outputs.toJSON().map((output: any) => {
    if (output.output_type === 'error') {
      return `${output.ename}: ${output.evalue}`;
    }
    if (errorsOnly) {
      return '';
    }
    const text = output.text ?? output.data?.['text/plain'] ?? '';
    return Array.isArray(text) ? text.join('') : String(text);
  });
  return texts.filter(Boolean).join('\n');
}
