-- name: way
-- The turns that lead to turn $2, the first first.
WITH RECURSIVE path AS (
    SELECT * FROM turns WHERE id = $2 AND session_id = $1
    UNION ALL
    SELECT t.* FROM turns t JOIN path p ON t.id = p.parent_id
)
SELECT * FROM path ORDER BY n;

-- name: line_now
SELECT cut_line(line, seq) FROM sessions WHERE id = $1;

-- name: runs_of_way
-- Cells that ran to an end in these turns, or to an error, in order.
SELECT r.execution_id, r.turn_id, t.n, r.cell_id, r.source, r.kernel_incarnation, r.started_at, r.status
FROM cell_runs r JOIN turns t ON t.id = r.turn_id
WHERE r.turn_id = ANY ($1::uuid[]) AND r.status IN ('ok', 'error') ORDER BY r.started_at;

-- name: outputs_of_runs
SELECT payload ->> 'execution_id' AS execution_id, payload -> 'outputs' AS outputs FROM events
WHERE turn_id = ANY ($1::uuid[]) AND type = 'cell.completed' AND payload ->> 'execution_id' = ANY ($2::text[]);

-- name: kernel_changes
SELECT seq, payload ->> 'status' AS status, (payload ->> 'incarnation')::integer AS incarnation,
    (payload ->> 'variables_lost')::boolean AS lost, coalesce((payload ->> 'recovered')::boolean, false) AS recovered
FROM events WHERE session_id = $1 AND type = 'kernel.changed' AND on_line(seq, $2::jsonb) ORDER BY seq;

-- name: checkpoints_on_way
-- Those kept behind the ends of the way's turns, and before event $3 if one is given; the last first. Of one turn's
-- those that hold all there was come first, and what a session fell asleep with behind the turn's own.
SELECT c.*, t.n, (c.metadata ->> 'incarnation')::integer AS incarnation
FROM checkpoints c JOIN turns t ON t.id = c.turn_id
WHERE c.turn_id = ANY ($1::uuid[]) AND (c.metadata ->> 'incarnation')::integer >= $2
  AND c.seq >= (t.line -> -1 ->> 1)::bigint AND ($3::bigint IS NULL OR c.seq < $3)
ORDER BY t.n DESC, coalesce((c.variables -> 'manifest' ->> 'partial')::boolean, false), c.metadata ->> 'kind' = 'hibernated', c.seq DESC LIMIT 100;

-- name: context_on_line
SELECT payload FROM events
WHERE session_id = $1 AND type = 'context.changed' AND on_line(seq, $2::jsonb) ORDER BY seq;

-- name: news
-- What came to a session behind event $2, and since its head last moved, and belongs to no turn: a user's own doings.
SELECT e.type, e.payload FROM events e JOIN sessions s ON s.id = e.session_id
WHERE e.session_id = $1 AND e.seq > greatest($2, (s.line -> -1 ->> 0)::bigint) AND e.turn_id IS NULL
  AND e.type IN ('cells.edited', 'file.uploaded', 'message.completed', 'message.edited', 'message.deleted',
                 'context.changed')
ORDER BY e.seq;

-- name: left_behind
SELECT source, n FROM cell_runs r JOIN turns t ON t.id = r.turn_id
WHERE r.turn_id = ANY ($1::uuid[]) AND r.status IS NOT NULL ORDER BY r.started_at;
