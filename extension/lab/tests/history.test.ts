/** The graph of a session's turns. */

import { describe, expect, it } from 'vitest';

import type { Turn } from '../src/api/client';
import { graph } from '../src/model/history';

/** Turns by their parents' numbers, the first turn first; 0 for none. */
const turns = (...parents: number[]) =>
  parents.map((parent, i) => ({ id: `t${i + 1}`, n: i + 1, parent_id: parent ? `t${parent}` : null }) as Turn);

/** Each row in one line: what comes from above, the turn, what goes on below. */
const drawn = (head: number, ...parents: number[]) =>
  graph(turns(...parents), head).map(place => {
    const lanes = 1 + Math.max(place.lane, ...place.passing, ...place.joins);
    const signs = [...Array(lanes).keys()].map(lane =>
      lane === place.lane
        ? `${place.turn.n}`
        : place.joins.includes(lane)
          ? '╯'
          : place.passing.includes(lane)
            ? '│'
            : ' '
    );
    return `${signs.join('')}${place.above ? '^' : ''}${place.below ? 'v' : ''}`;
  });

describe('the graph of turns', () => {
  it('is one lane where nothing was left behind', () => {
    expect(drawn(3, 0, 1, 2)).toEqual(['3v', '2^v', '1^']);
  });

  it('has what was left behind in a lane of its own, which ends where it grew', () => {
    expect(drawn(4, 0, 1, 2, 1)).toEqual(['4v', '│3v', '│2^v', '1╯^']);
  });

  it('keeps the first lane free above the head', () => {
    expect(drawn(1, 0, 1, 2)).toEqual([' 3v', ' 2^v', '1╯']);
  });

  it('lets limbs grow from limbs, and from the same turn', () => {
    expect(drawn(5, 0, 1, 2, 2, 1)).toEqual(['5v', '│4v', '││3v', '│2╯^v', '1╯^']);
  });

  it('uses a lane again that has ended', () => {
    expect(drawn(6, 0, 1, 1, 3, 3, 5)).toEqual(['6v', '5^v', '│4v', '3╯^v', '│2v', '1╯^']);
  });

  it('has several beginnings where all was taken back', () => {
    expect(drawn(2, 0, 0)).toEqual(['2', ' 1']);
    expect(drawn(0, 0)).toEqual([' 1']);
  });
});
