import { expect, test } from 'vitest';

import { inlined, OutputArea, references, written } from '../src/model/outputs';

test.each([
  ['', 'one\ntwo', 'one\ntwo'],
  ['10%', '\r20%', '20%'],
  ['abc', '\rx', 'xbc'],
  ['a\nbc', '\b\bX', 'a\nXc'],
  ['a', '\r\nb', 'a\nb'],
  ['done 99', '\rdone 100\nnext', 'done 100\nnext']
])('a terminal that holds %j shows after %j: %j', (before, more, after) => {
  expect(written(before, more)).toBe(after);
});

test('console text of one stream is joined, and another begins another output', () => {
  const area = new OutputArea();
  area.take({ output: { output_type: 'stream', name: 'stdout', text: 'a' } });
  area.take({ output: { output_type: 'stream', name: 'stdout', text: 'b\n' } });
  area.take({ output: { output_type: 'stream', name: 'stderr', text: 'c' } });
  expect(area.outputs.map(output => output.text)).toEqual(['ab\n', 'c']);
});

test('a display that is updated changes wherever it was shown; clearing with wait clears with the next output', () => {
  const area = new OutputArea();
  const shown = { output_type: 'display_data', data: { 'text/plain': '0%' }, metadata: {} };
  area.take({ output: shown, display_id: 'bar' });
  area.take({ output: shown, display_id: 'bar' });
  area.take({ update: { data: { 'text/plain': '50%' }, metadata: {} }, display_id: 'bar' });
  expect(area.outputs.map(output => output.data['text/plain'])).toEqual(['50%', '50%']);
  area.take({ clear: { wait: true } });
  expect(area.outputs).toHaveLength(2);
  area.take({ output: { output_type: 'stream', name: 'stdout', text: 'new' } });
  expect(area.outputs).toEqual([{ output_type: 'stream', name: 'stdout', text: 'new' }]);
});

test('large values come back as they were: text, JSON and bytes', () => {
  const bytes = Uint8Array.from({ length: 70_000 }, (_, i) => i % 256);
  const outputs = [
    { output_type: 'stream', name: 'stdout', text: { 'cellwright/object': 'a', size_bytes: 2, encoding: 'text' } },
    {
      output_type: 'display_data',
      data: {
        'image/png': { 'cellwright/object': 'b', size_bytes: 3, encoding: 'base64' },
        'application/json': { 'cellwright/object': 'c', size_bytes: 3, encoding: 'json' },
        'text/plain': 'small'
      }
    }
  ];
  expect(references(outputs)).toEqual(['a', 'b', 'c']);
  const encode = (text: string) => new TextEncoder().encode(text).buffer as ArrayBuffer;
  const objects = new Map([
    ['a', encode('größe')],
    ['b', bytes.buffer as ArrayBuffer],
    ['c', encode('{"x":[1]}')]
  ]);
  const [stream, figure] = inlined(outputs, objects);
  expect(stream!.text).toBe('größe');
  expect(figure!.data['image/png']).toBe(Buffer.from(bytes).toString('base64'));
  expect(figure!.data['application/json']).toEqual({ x: [1] });
  expect(figure!.data['text/plain']).toBe('small');
});
