/** How outputs accumulate while a cell runs: what `OutputArea` in notebooks/outputs.py does, for live text. */

import type { IOutputAreaModel } from '@jupyterlab/outputarea';

export type Output = Record<string, any>;

/** Terminal text after `more` was written behind `text`: carriage returns and backspaces go back over the last line. */
export function written(text: string, more: string): string {
  if (!/[\r\b]/.test(more)) {
    return text + more;
  }
  const begin = text.lastIndexOf('\n') + 1;
  let done = text.slice(0, begin);
  let line = text.slice(begin);
  let cursor = line.length;
  for (const piece of more.replace(/\r\n/g, '\n').split(/([\n\r\b])/)) {
    if (piece === '\n') {
      done += line + '\n';
      line = '';
      cursor = 0;
    } else if (piece === '\r') {
      cursor = 0;
    } else if (piece === '\b') {
      cursor = Math.max(0, cursor - 1);
    } else {
      line = line.slice(0, cursor) + piece + line.slice(cursor + piece.length);
      cursor += piece.length;
    }
  }
  return done + line;
}

/** The outputs of one run of a cell, as its live events tell them. Every change makes other arrays and objects. */
export class OutputArea {
  outputs: Output[] = [];

  snapshot(outputs: Output[]): void {
    this.outputs = [...outputs];
    this._shown.clear();
    this._clearing = false;
  }

  /** Takes a `cell.output` event. */
  take(told: Record<string, any>): void {
    if (told.clear) {
      if (told.clear.wait) {
        this._clearing = true;
      } else {
        this.snapshot([]);
      }
    } else if (told.update) {
      const places = this._shown.get(told.display_id) ?? [];
      this.outputs = this.outputs.map((output, i) => (places.includes(i) ? { ...output, ...told.update } : output));
    } else {
      if (this._clearing) {
        this.snapshot([]);
      }
      this._show(told.output, told.display_id);
    }
  }

  private _show(output: Output, display_id?: string): void {
    const last = this.outputs.at(-1);
    if (output.output_type === 'stream' && last?.output_type === 'stream' && last.name === output.name) {
      this.outputs = [...this.outputs.slice(0, -1), { ...last, text: written(last.text, output.text) }];
      return;
    }
    const shown = output.output_type === 'stream' ? { ...output, text: written('', output.text) } : output;
    this.outputs = [...this.outputs, shown];
    if (display_id) {
      this._shown.set(display_id, [...(this._shown.get(display_id) ?? []), this.outputs.length - 1]);
    }
  }

  private _shown = new Map<string, number[]>();
  private _clearing = false;
}

const joined = (text: string | string[]) => (Array.isArray(text) ? text.join('') : text);

/**
 * Puts outputs into what shows them, and leaves those alone that are there. Not for the shared model of a notebook: it
 * would take the replacement of a console text for an addition to it.
 */
export function put(area: IOutputAreaModel, outputs: Output[]): void {
  const held = area.toJSON() as Output[];
  let keep = 0;
  while (keep < held.length && JSON.stringify(held[keep]) === JSON.stringify(outputs[keep])) {
    keep += 1;
  }
  const last = held[keep];
  const next = outputs[keep];
  if (keep === held.length - 1 && last?.output_type === 'stream' && next?.name === last.name) {
    const text = joined(last.text);
    if (joined(next!.text).startsWith(text)) {
      area.add({ ...next, text: joined(next!.text).slice(text.length) } as any);
      keep += 1;
    }
  }
  if (keep >= held.length) {
    outputs.slice(keep).forEach(output => area.add(output as any));
  } else {
    area.fromJSON(outputs as any);
  }
}

const OBJECT = 'cellwright/object';

interface Reference {
  'cellwright/object': string;
  size_bytes: number;
  encoding: 'base64' | 'json' | 'text';
}

const isReference = (value: any): value is Reference => typeof value === 'object' && value !== null && OBJECT in value;

/** The names of values that stand elsewhere. */
export function references(outputs: Output[]): string[] {
  return outputs.flatMap(output =>
    [output.text, ...Object.values(output.data ?? {})].filter(isReference).map(found => found[OBJECT])
  );
}

function value(held: unknown, objects: Map<string, ArrayBuffer>): unknown {
  if (!isReference(held)) {
    return held;
  }
  const bytes = objects.get(held[OBJECT]);
  if (bytes === undefined) {
    return held.encoding === 'json' ? null : '';
  }
  if (held.encoding === 'base64') {
    let binary = '';
    const view = new Uint8Array(bytes);
    for (let i = 0; i < view.length; i += 0x8000) {
      binary += String.fromCharCode(...view.subarray(i, i + 0x8000));
    }
    return btoa(binary);
  }
  const text = new TextDecoder().decode(bytes);
  return held.encoding === 'json' ? JSON.parse(text) : text;
}

/** Outputs with every reference replaced by what `objects` holds under its name. */
export function inlined(outputs: Output[], objects: Map<string, ArrayBuffer>): Output[] {
  return outputs.map(output => {
    const whole = { ...output };
    if (whole.text !== undefined) {
      whole.text = value(whole.text, objects);
    }
    if (whole.data !== undefined) {
      whole.data = Object.fromEntries(Object.entries(whole.data).map(([mime, held]) => [mime, value(held, objects)]));
    }
    return whole;
  });
}
