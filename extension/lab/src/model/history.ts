/** The turns of a session as a graph: the way to where it is, and the limbs that rewinds left behind. Pure. */

import type { Turn } from '../api/client';

/** One turn's place in the graph, and the lines around it, the newest turn first. Lanes count from 0. */
export interface Place {
  turn: Turn;
  lane: number;
  /** Whether the turn leads to the head; the way there is lane 0. */
  leads: boolean;
  /** Whether a line comes from above, of a later turn in the same lane, and goes on below, to an earlier one. */
  above: boolean;
  below: boolean;
  /** Lanes that end here: limbs that grew from this turn. */
  joins: number[];
  /** Lanes that pass by. */
  passing: number[];
}

export function graph(turns: Turn[], head: number): Place[] {
  const byId = new Map(turns.map(turn => [turn.id, turn]));
  const way = new Set<string>();
  for (let turn = turns.find(held => held.n === head); turn; turn = byId.get(turn.parent_id ?? '')) {
    way.add(turn.id);
  }
  // The turn that each lane waits for.
  const lanes: (string | null)[] = [null];
  const free = () => {
    const found = lanes.findIndex((wanted, lane) => lane > 0 && wanted === null);
    return found === -1 ? lanes.length : found;
  };
  return [...turns]
    .sort((a, b) => b.n - a.n)
    .map(turn => {
      const waiting = [...lanes.keys()].filter(lane => lanes[lane] === turn.id);
      const leads = way.has(turn.id);
      const lane = leads ? 0 : (waiting[0] ?? free());
      const joins = waiting.filter(other => other !== lane);
      joins.forEach(other => (lanes[other] = null));
      lanes[lane] = turn.parent_id;
      return {
        turn,
        lane,
        leads,
        above: waiting.includes(lane),
        below: turn.parent_id !== null,
        joins,
        passing: [...lanes.keys()].filter(other => other !== lane && lanes[other] !== null)
      };
    });
}
