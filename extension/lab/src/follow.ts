/** Keeps the end of the chat in sight while it grows, unless the reader went up to read. */

const NEAR_PX = 48;

export class Follow {
  constructor(private readonly node: HTMLElement) {
    // The scrolling element comes and goes with React's drawing.
    this._found = new MutationObserver(() => this._find());
    this._found.observe(node, { childList: true, subtree: true });
    this._grown = new ResizeObserver(() => this.toEnd(false));
    this._find();
  }

  /** Goes to the end: because something was asked, or because the reader stands there anyway. */
  toEnd(asked: boolean): void {
    this._following ||= asked;
    if (this._following && this._box) {
      this._box.scrollTop = this._box.scrollHeight;
    }
  }

  dispose(): void {
    this._found.disconnect();
    this._grown.disconnect();
  }

  private _find(): void {
    const box = this.node.querySelector<HTMLElement>('[id^="jupyter-chat-scroll-container"]');
    if (!box) {
      return;
    }
    const inner = box.firstElementChild;
    if (box !== this._box || inner !== this._inner) {
      this._inner = inner;
      this._grown.disconnect();
      this._grown.observe(box);
      if (inner) {
        this._grown.observe(inner);
      }
    }
    if (box === this._box) {
      return;
    }
    this._box = box;
    let height = 0;
    box.addEventListener('scroll', () => {
      // What grew is no movement of the reader's.
      if (box.scrollHeight === height) {
        this._following = box.scrollHeight - box.scrollTop - box.clientHeight < NEAR_PX;
      }
      height = box.scrollHeight;
    });
  }

  private _box: HTMLElement | null = null;
  private _inner: Element | null = null;
  private _following = true;
  private readonly _found: MutationObserver;
  private readonly _grown: ResizeObserver;
}
