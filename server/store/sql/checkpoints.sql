-- name: insert_checkpoint
INSERT INTO checkpoints (id, session_id, turn_id, seq, revision, label, variables, size_bytes, metadata, created_at)
SELECT $1, $2, $3, $4, revision, $5, $6, $7,
    $8::jsonb || jsonb_build_object('line', cut_line(line, $4), 'workspace_version', workspace_version), $9
FROM sessions WHERE id = $2;

-- name: named
SELECT c.*, t.n FROM checkpoints c LEFT JOIN turns t ON t.id = c.turn_id
WHERE c.session_id = $1 AND c.metadata ->> 'kind' = 'named' ORDER BY c.seq DESC LIMIT $2 OFFSET $3;

-- name: count_named
SELECT count(*) FROM checkpoints WHERE session_id = $1 AND metadata ->> 'kind' = 'named';

-- name: any_checkpoint
SELECT c.*, t.n FROM checkpoints c LEFT JOIN turns t ON t.id = c.turn_id
WHERE c.id = $1 AND c.metadata ->> 'kind' = 'named';

-- name: by_label
-- The last of that name that is no part of a limb.
SELECT c.*, t.n FROM checkpoints c LEFT JOIN turns t ON t.id = c.turn_id JOIN sessions s ON s.id = c.session_id
WHERE c.session_id = $1 AND c.label = $2 AND c.metadata ->> 'kind' = 'named' AND on_line(c.seq, s.line)
ORDER BY c.seq DESC LIMIT 1;

-- name: labels
SELECT DISTINCT label FROM checkpoints c JOIN sessions s ON s.id = c.session_id
WHERE c.session_id = $1 AND c.metadata ->> 'kind' = 'named' AND on_line(c.seq, s.line);

-- name: of_turns
-- Those that were made behind the end of their turn, and on the line $4 of session $3 before its first.
SELECT c.* FROM checkpoints c LEFT JOIN turns t ON t.id = c.turn_id
WHERE (c.turn_id = ANY ($1::uuid[]) AND c.seq >= (t.line -> -1 ->> 1)::bigint
       OR c.session_id = $3 AND c.turn_id IS NULL AND on_line(c.seq, $4::jsonb))
  AND (c.metadata ->> 'incarnation')::integer >= $2
ORDER BY c.seq;

-- name: refer
INSERT INTO object_refs (sha256, session_id, holder)
SELECT unnest($1::text[]), $2, $3 ON CONFLICT DO NOTHING;

-- name: known_objects
SELECT DISTINCT o.sha256, o.size_bytes FROM object_refs r JOIN objects o USING (sha256)
WHERE r.session_id = $1 AND r.holder LIKE 'checkpoint:%';

-- name: checkpoint
SELECT * FROM checkpoints WHERE session_id = $1 AND id::text = $2;

-- name: to_wake
-- The last hibernation, if no kernel has run since, and the head was not moved away from it.
SELECT c.* FROM checkpoints c JOIN sessions s ON s.id = c.session_id
WHERE c.session_id = $1 AND c.metadata ->> 'kind' = 'hibernated' AND (c.metadata ->> 'incarnation')::integer = $2
  AND on_line(c.seq, s.line)
ORDER BY c.seq DESC LIMIT 1;

-- name: drop_stale
-- A session wakes from its last hibernation; older ones go, with what they refer to.
WITH gone AS (
    DELETE FROM checkpoints
    WHERE session_id = $1 AND metadata ->> 'kind' = 'hibernated'
      AND seq < (SELECT max(seq) FROM checkpoints WHERE session_id = $1 AND metadata ->> 'kind' = 'hibernated')
    RETURNING id
)
DELETE FROM object_refs r USING gone
WHERE r.session_id = $1 AND r.holder = 'checkpoint:' || gone.id
RETURNING r.sha256;

-- name: drop_turns
-- All but the last $2, and of what was stored between two turns, or moves of the head, all but the last.
WITH gone AS (
    DELETE FROM checkpoints
    WHERE id IN (SELECT id FROM checkpoints WHERE session_id = $1 AND metadata ->> 'kind' IN ('turn', 'begin')
                 ORDER BY seq DESC OFFSET $2)
       OR id IN (SELECT c.id FROM checkpoints c
                 WHERE c.session_id = $1 AND c.metadata ->> 'kind' = 'begin'
                   AND c.seq < (SELECT max(seq) FROM checkpoints
                                WHERE session_id = $1 AND metadata ->> 'kind' = 'begin')
                   AND NOT EXISTS (SELECT FROM events e
                                   WHERE e.session_id = $1 AND e.seq > c.seq
                                     AND e.type IN ('turn.queued', 'head.moved', 'session.branched')))
    RETURNING id
)
DELETE FROM object_refs r USING gone
WHERE r.session_id = $1 AND r.holder = 'checkpoint:' || gone.id
RETURNING r.sha256;
