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
-- Cells that ran to an end in these turns, or to an error, in order: without those that an agent took back within its
-- turn, and those behind the point in a turn to which a user went back.
WITH taken_back AS (
    SELECT (payload ->> 'back_to')::bigint AS after, seq AS before FROM events
    WHERE session_id = $2 AND type = 'kernel.changed' AND payload ->> 'back_to' IS NOT NULL AND on_line(seq, $3::jsonb)
), special AS (
    SELECT id FROM turns WHERE id = ANY ($1::uuid[])
      AND (on_line((line -> -1 ->> 1)::bigint, $3::jsonb) IS NOT TRUE
           OR id IN (SELECT turn_id FROM events WHERE session_id = $2 AND seq IN (SELECT before FROM taken_back)))
), begun AS (
    SELECT payload ->> 'execution_id' AS execution_id, seq FROM events
    WHERE turn_id IN (SELECT id FROM special) AND type = 'cell.started'
)
SELECT r.execution_id, r.turn_id, t.n, r.cell_id, r.source, r.kernel_incarnation, r.started_at, r.status, r.duration_ms
FROM cell_runs r JOIN turns t ON t.id = r.turn_id LEFT JOIN begun b ON b.execution_id = r.execution_id::text
WHERE r.turn_id = ANY ($1::uuid[]) AND r.status IN ('ok', 'error')
  AND (b.seq IS NULL OR on_line(b.seq, $3::jsonb)
       AND NOT EXISTS (SELECT FROM taken_back WHERE b.seq > after AND b.seq < before))
ORDER BY r.started_at;

-- name: outputs_of_runs
SELECT payload ->> 'execution_id' AS execution_id, payload -> 'outputs' AS outputs FROM events
WHERE turn_id = ANY ($1::uuid[]) AND type = 'cell.completed' AND payload ->> 'execution_id' = ANY ($2::text[]);

-- name: kernel_changes
SELECT seq, payload ->> 'status' AS status, (payload ->> 'incarnation')::integer AS incarnation,
    (payload ->> 'variables_lost')::boolean AS lost, coalesce((payload ->> 'recovered')::boolean, false) AS recovered,
    coalesce(payload -> 'ran_again' @> '[{"verdict": "skipped"}]', false) AS left_out
FROM events WHERE session_id = $1 AND type = 'kernel.changed' AND on_line(seq, $2::jsonb) ORDER BY seq;

-- name: checkpoints_on_way
-- Those kept behind the ends of the way's turns, and before event $3 if one is given; the last first. Of one turn's
-- those that hold all there was come first. What was kept when a session fell asleep, or before the next turn, holds
-- what the user did since: it counts where that is on the way, and else comes last. Of a turn in whose middle the way
-- leaves it, those of its middle count. What the user ran before the first turn is of none.
SELECT c.*, coalesce(t.n, 0) AS n, (c.metadata ->> 'incarnation')::integer AS incarnation
FROM checkpoints c LEFT JOIN turns t ON t.id = c.turn_id
WHERE (c.turn_id = ANY ($1::uuid[]) OR c.session_id = $5 AND c.turn_id IS NULL)
  AND (c.metadata ->> 'incarnation')::integer >= $2
  AND CASE WHEN on_line((t.line -> -1 ->> 1)::bigint, $4::jsonb)
           THEN c.seq >= (t.line -> -1 ->> 1)::bigint AND on_line((t.line -> -1 ->> 1)::bigint, c.metadata -> 'line')
           ELSE on_line(c.seq, $4::jsonb) END
  AND ($3::bigint IS NULL OR c.seq < $3)
ORDER BY n DESC, coalesce((c.variables -> 'manifest' ->> 'partial')::boolean, false),
    c.metadata ->> 'kind' IN ('hibernated', 'begin') AND NOT on_line(c.seq, $4::jsonb), c.seq DESC LIMIT 100;

-- name: kept_before
-- Whether variables were kept behind turn $1's own point: a user had run something by then.
SELECT EXISTS (SELECT FROM checkpoints
               WHERE turn_id = $1 AND metadata ->> 'kind' = 'begin' AND on_line(seq, $2::jsonb));

-- name: context_on_line
SELECT payload FROM events
WHERE session_id = $1 AND type = 'context.changed' AND on_line(seq, $2::jsonb) ORDER BY seq;

-- name: news
-- What came to a session behind event $2, and since its head last moved, and belongs to no turn: a user's own doings.
SELECT e.type, e.payload FROM events e JOIN sessions s ON s.id = e.session_id
WHERE e.session_id = $1 AND e.seq > greatest($2, (s.line -> -1 ->> 0)::bigint) AND e.turn_id IS NULL
  AND (e.type IN ('cells.edited', 'file.uploaded', 'message.completed', 'message.edited', 'message.deleted',
                  'context.changed')
       OR e.type = 'checkpoint.created' AND e.payload ->> 'kind' = 'begin')
ORDER BY e.seq;

-- name: sources
SELECT source, n FROM cell_runs r JOIN turns t ON t.id = r.turn_id
WHERE r.turn_id = ANY ($1::uuid[]) AND r.status IS NOT NULL ORDER BY r.started_at;
