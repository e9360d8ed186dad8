-- name: append
-- One statement takes the numbers, checks the fence, writes and wakes the readers. $2 is the writer's generation, or
-- null for whoever may write without the lease (a user's request). No row: the fence refused, or no such session.
WITH taken AS (
    UPDATE sessions SET seq = seq + cardinality($4::text[]), updated_at = now(), last_activity = now()
    WHERE id = $1 AND ($2::bigint IS NULL OR generation = $2)
    RETURNING seq, now() AS at
), written AS (
    INSERT INTO events (session_id, seq, turn_id, type, payload, at)
    SELECT $1, taken.seq - cardinality($4::text[]) + e.n, e.turn_id, e.type, e.payload, taken.at
    FROM taken, unnest($3::uuid[], $4::text[], $5::jsonb[]) WITH ORDINALITY AS e (turn_id, type, payload, n)
)
SELECT seq, at, pg_notify('cellwright_events', $1 || ':' || seq || ':' || ($4::text[])[cardinality($4::text[])])
FROM taken;

-- name: append_past
-- The same for events that were, with their times: a branch begins with those of its parent.
WITH taken AS (
    UPDATE sessions SET seq = seq + cardinality($3::text[]) WHERE id = $1 RETURNING seq
), written AS (
    INSERT INTO events (session_id, seq, turn_id, type, payload, at)
    SELECT $1, taken.seq - cardinality($3::text[]) + e.n, e.turn_id, e.type, e.payload, e.at
    FROM taken, unnest($2::uuid[], $3::text[], $4::jsonb[], $5::timestamptz[])
        WITH ORDINALITY AS e (turn_id, type, payload, at, n)
)
SELECT seq FROM taken;

-- name: on_way
-- The events that lead to a point: those of its turns, and those of none that lie on its line. Of a turn in whose middle
-- the line leaves it, only those on the line.
WITH whole AS (SELECT id FROM turns WHERE id = ANY ($3::uuid[]) AND on_line((line -> -1 ->> 1)::bigint, $2::jsonb))
SELECT session_id, seq, turn_id, type, payload, at FROM events
WHERE session_id = $1
  AND (turn_id IN (SELECT id FROM whole)
       OR (turn_id IS NULL OR turn_id = ANY ($3::uuid[])) AND on_line(seq, $2::jsonb))
ORDER BY seq;

-- name: session_exists
SELECT generation FROM sessions WHERE id = $1;

-- name: events_after
-- One at least, and no more than fit into $4 bytes: a reader that is slow holds a page.
SELECT session_id, seq, turn_id, type, payload, at, size FROM (
    SELECT *, sum(size) OVER (ORDER BY seq) - size AS before FROM (
        SELECT *, octet_length(payload::text) AS size FROM events
        WHERE session_id = $1 AND seq > $2 ORDER BY seq LIMIT $3
    ) AS page
) AS measured
WHERE before < $4 ORDER BY seq;

-- name: events_of_turn
SELECT session_id, seq, turn_id, type, payload, at FROM events WHERE turn_id = $1 ORDER BY seq;

-- name: hold_revision
SELECT revision FROM sessions WHERE id = $1 FOR UPDATE;

-- name: turn_begins
SELECT min(seq) FROM events WHERE turn_id = (SELECT id FROM turns WHERE session_id = $1 AND n = $2);

-- name: first_turn_within
SELECT min(n) FROM (
  SELECT t.n, sum(sum(octet_length(e.payload::text))) OVER (ORDER BY t.n DESC) AS bytes
  FROM turns t JOIN events e ON e.turn_id = t.id
  WHERE t.session_id = $1 AND NOT t.limb AND t.n >= $2 AND t.n < $3
  GROUP BY t.n) sized
WHERE bytes <= $4;

-- name: events_through
-- Without what a rewind left behind.
SELECT e.session_id, e.seq, e.turn_id, e.type, e.payload, e.at
FROM events e JOIN sessions s ON s.id = e.session_id LEFT JOIN turns t ON t.id = e.turn_id
WHERE e.session_id = $1 AND e.seq > $2 AND e.seq <= $3
  AND CASE WHEN e.turn_id IS NULL THEN on_line(e.seq, s.line) ELSE t.limb IS NOT TRUE END
ORDER BY e.seq;

-- name: turn_at
SELECT session_id, seq, turn_id, type, payload, at FROM events
WHERE turn_id = (SELECT turn_id FROM events WHERE session_id = $1 AND seq <= $2 AND turn_id IS NOT NULL
                 ORDER BY seq DESC LIMIT 1)
  AND seq <= $2 AND type = ANY ($3::text[])
ORDER BY seq;

-- name: events_of_type
SELECT session_id, seq, turn_id, type, payload, at FROM events WHERE session_id = $1 AND type = $2 ORDER BY seq;

-- name: variables_lost
-- Whether the kernel lost its variables since a model last spoke in another turn than $2.
SELECT payload ->> 'cause' FROM events
WHERE session_id = $1 AND type = 'kernel.changed' AND (payload ->> 'variables_lost')::boolean
  AND seq > coalesce((SELECT max(seq) FROM messages
                      WHERE session_id = $1 AND role = 'assistant' AND turn_id <> $2), 0)
ORDER BY seq LIMIT 1;

-- name: last_seq
SELECT seq FROM sessions WHERE id = $1;
