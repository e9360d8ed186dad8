-- name: take_seq
-- One statement takes the numbers and checks the fence: $3 is the writer's generation, or null for whoever
-- may write without the lease (a user's request).
UPDATE sessions
SET seq = seq + $2, updated_at = now(), last_activity = now()
WHERE id = $1 AND ($3::bigint IS NULL OR generation = $3)
RETURNING seq, revision, now() AS at;

-- name: session_exists
SELECT generation FROM sessions WHERE id = $1;

-- name: insert_events
INSERT INTO events (session_id, seq, turn_id, type, payload, at)
SELECT $1, e.seq, e.turn_id, e.type, e.payload, $6
FROM unnest($2::bigint[], $3::uuid[], $4::text[], $5::jsonb[]) AS e (seq, turn_id, type, payload);

-- name: wake_readers
SELECT pg_notify('cellwright_events', $1);

-- name: events_after
SELECT session_id, seq, turn_id, type, payload, at FROM events
WHERE session_id = $1 AND seq > $2 ORDER BY seq LIMIT $3;

-- name: events_of_turn
SELECT session_id, seq, turn_id, type, payload, at FROM events WHERE turn_id = $1 ORDER BY seq;

-- name: variables_lost
-- Whether the kernel lost its variables since a model last spoke in another turn than $2.
SELECT payload ->> 'cause' FROM events
WHERE session_id = $1 AND type = 'kernel.changed' AND (payload ->> 'variables_lost')::boolean
  AND seq > coalesce((SELECT max(seq) FROM messages
                      WHERE session_id = $1 AND role = 'assistant' AND turn_id <> $2), 0)
ORDER BY seq LIMIT 1;

-- name: last_seq
SELECT seq FROM sessions WHERE id = $1;
