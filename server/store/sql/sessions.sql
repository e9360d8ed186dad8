-- name: insert_session
INSERT INTO sessions (id, owner, key, title, title_by, agent, model, kernel_name, notebook_path, workspace,
                      metadata, preferences)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
ON CONFLICT (owner, key) DO NOTHING
RETURNING id;

-- name: session
SELECT * FROM sessions WHERE id = $1 AND ($2::text IS NULL OR owner = $2);

-- name: session_by_key
SELECT * FROM sessions WHERE owner = $2 AND key = $1;

-- name: list_sessions
SELECT * FROM sessions
WHERE owner = $1
  AND ($2::text IS NULL OR strpos(lower(title), lower($2)) > 0
       OR EXISTS (SELECT FROM messages m WHERE m.session_id = sessions.id AND strpos(lower(m.content), lower($2)) > 0))
  AND ($3::text IS NULL OR status = $3)
  AND ($4::text IS NULL OR agent = $4)
  AND ($5::jsonb IS NULL OR metadata @> $5)
ORDER BY last_activity DESC, id LIMIT $6 OFFSET $7;

-- name: count_sessions
SELECT count(*) FROM sessions
WHERE owner = $1
  AND ($2::text IS NULL OR strpos(lower(title), lower($2)) > 0
       OR EXISTS (SELECT FROM messages m WHERE m.session_id = sessions.id AND strpos(lower(m.content), lower($2)) > 0))
  AND ($3::text IS NULL OR status = $3)
  AND ($4::text IS NULL OR agent = $4)
  AND ($5::jsonb IS NULL OR metadata @> $5);

-- name: delete_session
DELETE FROM sessions WHERE id = $1 RETURNING workspace, notebook_path;

-- name: lock_session
SELECT turn_count, status FROM sessions WHERE id = $1 FOR UPDATE;

-- name: turn
SELECT t.* FROM turns t JOIN sessions s ON s.id = t.session_id
WHERE t.id = $1 AND ($2::text IS NULL OR s.owner = $2);

-- name: turn_by_number
SELECT * FROM turns WHERE session_id = $1 AND n = $2;

-- name: list_turns
SELECT * FROM turns WHERE session_id = $1 ORDER BY n LIMIT $2 OFFSET $3;

-- name: count_turns
SELECT count(*) FROM turns WHERE session_id = $1;

-- name: open_turns
SELECT * FROM turns WHERE session_id = $1 AND status IN ('queued', 'running') ORDER BY n;

-- name: request_stop
UPDATE turns SET stop_requested = true WHERE id = $1;

-- name: stop_requested
SELECT stop_requested FROM turns WHERE id = $1;

-- name: turns_to_head
WITH RECURSIVE path AS (
    SELECT t.*, 1 AS depth FROM turns t JOIN sessions s ON s.head_turn_id = t.id WHERE s.id = $1
    UNION ALL
    SELECT t.*, p.depth + 1 FROM turns t JOIN path p ON t.id = p.parent_id WHERE p.depth < $2
)
SELECT * FROM path ORDER BY n DESC LIMIT $2;

-- name: messages_of_turns
SELECT * FROM messages WHERE turn_id = ANY ($1::uuid[]) ORDER BY seq;

-- name: list_messages
SELECT * FROM messages WHERE session_id = $1 ORDER BY seq LIMIT $2 OFFSET $3;

-- name: count_messages
SELECT count(*) FROM messages WHERE session_id = $1;

-- name: message_artifacts
SELECT id, message_id, turn_id FROM artifacts
WHERE session_id = $1 AND status = 'ready' AND turn_id = ANY ($2::uuid[]) ORDER BY created_at;

-- name: runs_of_turn
SELECT * FROM cell_runs WHERE turn_id = $1 ORDER BY started_at;

-- name: with_kernels
-- Sessions whose kernel is one of $1; those with any, for null.
SELECT id, kernel_id, kernel_incarnation FROM sessions
WHERE kernel_id IS NOT NULL AND ($1::text[] IS NULL OR kernel_id = ANY ($1));

-- name: last_activity
SELECT id, last_activity FROM sessions WHERE id = ANY ($1::uuid[]);
