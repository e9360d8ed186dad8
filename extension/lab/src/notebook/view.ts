/** What a user sees of an open notebook when its cells go. */

import type { NotebookPanel } from '@jupyterlab/notebook';

/** Brings the last cell into view when cells went and none of those that stay is to be seen. */
export function keepInView(panel: NotebookPanel): void {
  const { content, context } = panel;
  let went = false;
  const look = () => {
    const shown = content.node.getBoundingClientRect();
    if (!went || panel.isDisposed || shown.height === 0) {
      return;
    }
    went = false;
    const last = content.widgets.at(-1);
    if (last?.isAttached && last.node.getBoundingClientRect().bottom < shown.top) {
      void content.scrollToItem(content.widgets.length - 1, 'end');
    }
  };
  context.model.cells.changed.connect((_, { type }) => {
    if (type === 'remove') {
      went = true;
      requestAnimationFrame(look);
    }
  });
  // It may be behind another tab meanwhile.
  const observer = new ResizeObserver(look);
  observer.observe(content.node);
  panel.disposed.connect(() => observer.disconnect());
}
