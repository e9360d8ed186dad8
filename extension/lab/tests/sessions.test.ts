/** Sessions with their branches below them. */

import { describe, expect, it } from 'vitest';

import type { SessionRow } from '../src/api/client';
import { tree } from '../src/model/sessions';

const row = (id: string, parent?: string) =>
  ({ id, parent: parent ? { session_id: parent, turn: 1 } : null }) as SessionRow;
const shape = (...rows: SessionRow[]) => tree(rows).map(({ row, depth }) => `${depth}${row.id}`);

describe('the tree of sessions', () => {
  it('puts branches below their parent, whatever the order', () => {
    expect(shape(row('c', 'a'), row('b'), row('a'), row('d', 'c'))).toEqual(['0b', '0a', '1c', '2d']);
  });

  it('shows a branch whose parent is not in the list as a root', () => {
    expect(shape(row('a', 'gone'), row('b', 'a'))).toEqual(['0a', '1b']);
  });
});
