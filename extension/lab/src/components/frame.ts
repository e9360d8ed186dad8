/** HTML that brings scripts, in a frame that is shut off: from the page, from its server and from the network. */

import { htmlRendererFactory, type IRenderMime, type IRenderMimeRegistry } from '@jupyterlab/rendermime';
import { Panel, Widget } from '@lumino/widgets';

const HTML = 'text/html';
/** What JupyterLab's sanitizer would take out, and the output mean nothing without. */
const ACTIVE = /<\s*(script|iframe|object|embed)\b/i;
/** What the output may do: run, and show what it brought along. */
const INNER = [
  "default-src 'none'",
  "script-src 'unsafe-inline' 'unsafe-eval' blob:",
  "style-src 'unsafe-inline'",
  'img-src data: blob:',
  'font-src data:',
  'media-src data: blob:',
  'worker-src blob:',
  'child-src blob: data:'
].join('; ');
/** The frame around it: what is in it may not go to another address either, which only who holds a frame can forbid. */
const OUTER = "default-src 'none'; frame-src blob: data:; script-src 'unsafe-inline'; style-src 'unsafe-inline'";
const MAX_HEIGHT_PX = 800;
/** Tells the frame's height to the page: a frame does not grow by itself. */
const TELL = `new ResizeObserver(() => parent.postMessage({ height: document.documentElement.offsetHeight }, '*'))
  .observe(document.documentElement)`;
const PASS_ON = `addEventListener('message', told => {
  if (told.source === document.querySelector('iframe').contentWindow) parent.postMessage(told.data, '*');
})`;

/** Renderers like those given, but for HTML with scripts. */
export function framed(rendermime: IRenderMimeRegistry): IRenderMimeRegistry {
  const own = rendermime.clone();
  own.addFactory({
    safe: true,
    mimeTypes: [HTML],
    defaultRank: htmlRendererFactory.defaultRank,
    createRenderer: options => new RenderedPage(options)
  });
  return own;
}

class RenderedPage extends Panel implements IRenderMime.IRenderer {
  constructor(private readonly options: IRenderMime.IRendererOptions) {
    super();
    this.addClass('jp-Cellwright-page');
  }

  async renderModel(model: IRenderMime.IMimeModel): Promise<void> {
    const source = String(model.data[HTML] ?? '');
    this.widgets[0]?.dispose();
    if (ACTIVE.test(source)) {
      this.addWidget(new Widget({ node: this._frame(source) }));
    } else {
      const plain = htmlRendererFactory.createRenderer(this.options);
      this.addWidget(plain);
      await plain.renderModel(model);
    }
  }

  dispose(): void {
    window.removeEventListener('message', this._hear);
    super.dispose();
  }

  private _frame(source: string): HTMLIFrameElement {
    const { color, fontFamily, fontSize } = getComputedStyle(document.body);
    const style = `body { margin: 0; color: ${color}; font: ${fontSize} ${fontFamily} }`;
    const frame = document.createElement('iframe');
    // Scripts, but no origin: no cookies, no storage, no way to the page or to Jupyter.
    frame.setAttribute('sandbox', 'allow-scripts');
    frame.title = this.options.translator?.load('cellwright').__('An interactive output') ?? 'An interactive output';
    const inner = page(INNER, `${style} html { overflow: auto }`, `${source}<script>${TELL}</script>`);
    const held = `<iframe sandbox="allow-scripts" srcdoc="${quoted(inner)}"></iframe><script>${PASS_ON}</script>`;
    const fill = 'iframe { display: block; width: 100%; height: 100vh; border: none }';
    frame.srcdoc = page(OUTER, `body { margin: 0; overflow: hidden } ${fill}`, held);
    window.removeEventListener('message', this._hear);
    this._hear = ({ source: teller, data }) => {
      if (teller === frame.contentWindow && Number.isFinite(data?.height)) {
        frame.style.height = `${Math.min(MAX_HEIGHT_PX, Math.max(20, data.height))}px`;
      }
    };
    window.addEventListener('message', this._hear);
    return frame;
  }

  private _hear: (event: MessageEvent) => void = () => undefined;
}

function page(policy: string, style: string, body: string): string {
  const head = `<meta http-equiv="Content-Security-Policy" content="${policy}"><meta charset="utf-8">`;
  return `<!doctype html>${head}<style>${style}</style>${body}`;
}

function quoted(html: string): string {
  return html.replace(/&/g, '&amp;').replace(/"/g, '&quot;');
}
