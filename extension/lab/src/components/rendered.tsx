/** Text, code and outputs, drawn by JupyterLab's own renderers. */

import { OutputArea, OutputAreaModel, SimplifiedOutputArea } from '@jupyterlab/outputarea';
import { MessageLoop } from '@lumino/messaging';
import { Widget } from '@lumino/widgets';
import { useEffect, useLayoutEffect, useMemo, useRef } from 'react';

import { put, type Output } from '../model/outputs';
import { framed } from './frame';
import { useServices } from './services';

/** Markdown, maths included; nothing in it is trusted. */
export function Markdown({ text }: { text: string }): JSX.Element {
  const { rendermime } = useServices();
  const host = useRef<HTMLDivElement>(null);
  const drawn = useRef(0);
  useEffect(() => {
    const turn = (drawn.current += 1);
    const renderer = rendermime.createRenderer('text/markdown');
    void renderer.renderModel(rendermime.createModel({ data: { 'text/markdown': text } })).then(() => {
      if (turn === drawn.current && host.current) {
        MessageLoop.sendMessage(renderer, Widget.Msg.AfterAttach);
        host.current.replaceChildren(renderer.node);
      }
    });
  }, [text, rendermime]);
  return <div className="jp-Cellwright-markdown" ref={host} />;
}

/** Python, coloured as in an editor. */
export function Code({ source }: { source: string }): JSX.Element {
  // A fence longer than any in the source cannot be closed by it.
  const fence = '`'.repeat(Math.max(3, ...[...source.matchAll(/`+/g)].map(found => found[0].length + 1)));
  return (
    <div className="jp-Cellwright-code">
      <Markdown text={`${fence}python\n${source}\n${fence}`} />
    </div>
  );
}

/** A cell's outputs as a notebook shows them; their scripts run in frames that are shut off from the page. */
export function Outputs({ outputs }: { outputs: Output[] }): JSX.Element {
  const { rendermime } = useServices();
  const host = useRef<HTMLDivElement>(null);
  const model = useMemo(() => new OutputAreaModel({ trusted: false }), []);
  // Before the page lets go of the node: a widget can only be taken from where it is.
  useLayoutEffect(() => {
    const area: OutputArea = new SimplifiedOutputArea({ model, rendermime: framed(rendermime) });
    if (host.current) {
      Widget.attach(area, host.current);
    }
    return () => area.dispose();
  }, [model, rendermime]);
  useEffect(() => {
    put(
      model,
      outputs.filter(output => output.output_type !== 'error')
    );
  }, [outputs, model]);
  return (
    <>
      <div className="jp-Cellwright-outputs" ref={host} />
      {outputs
        .filter(output => output.output_type === 'error')
        .map((output, i) => (
          <Failure key={i} output={output} />
        ))}
    </>
  );
}

/** An error in one line, with the way that it came underneath. */
function Failure({ output }: { output: Output }): JSX.Element {
  const { rendermime, trans } = useServices();
  const host = useRef<HTMLDivElement>(null);
  const draw = () => {
    if (host.current && !host.current.hasChildNodes()) {
      const renderer = rendermime.createRenderer('application/vnd.jupyter.stderr');
      const traceback = (output.traceback ?? []).join('\n');
      void renderer.renderModel(rendermime.createModel({ data: { 'application/vnd.jupyter.stderr': traceback } }));
      host.current.append(renderer.node);
    }
  };
  return (
    <div className="jp-Cellwright-failure">
      <strong>{output.ename}</strong>
      {output.evalue ? `: ${output.evalue}` : ''}
      {output.traceback?.length > 0 && (
        <details onToggle={draw}>
          <summary>{trans.__('Traceback')}</summary>
          <div ref={host} />
        </details>
      )}
    </div>
  );
}
