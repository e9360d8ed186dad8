-- name: insert_session
INSERT INTO sessions (id, owner, key, title, title_by, agent, model, kernel_name, notebook_path, workspace,
                      metadata, preferences)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
ON CONFLICT (owner, key) DO NOTHING
RETURNING id;

-- name: session
SELECT * FROM sessions WHERE id = $1;

-- name: shares
SELECT * FROM shares WHERE session_id = $1 ORDER BY created_at;

-- name: insert_share
INSERT INTO shares (id, session_id, role, user_name, token_hash, created_by, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (session_id, user_name) DO UPDATE
    SET role = excluded.role, expires_at = excluded.expires_at, created_by = excluded.created_by
RETURNING *;

-- name: share
SELECT * FROM shares WHERE id = $1;

-- name: delete_share
DELETE FROM shares WHERE id = $1;

-- name: session_of_notebook
SELECT id FROM sessions WHERE notebook_path = $1 LIMIT 1;

-- name: session_by_key
SELECT id FROM sessions WHERE owner = $2 AND key = $1;

-- name: sessions_by_beginning
SELECT id FROM sessions s
WHERE id::text LIKE $1 || '%' AND (owner = $2 OR EXISTS (
    SELECT FROM shares WHERE session_id = s.id AND user_name = $2 AND (expires_at IS NULL OR expires_at > now())
))
LIMIT 2;

-- name: list_sessions
WITH shared AS (
    SELECT session_id, role FROM shares WHERE user_name = $1 AND (expires_at IS NULL OR expires_at > now())
)
SELECT s.*, CASE WHEN s.owner = $1 THEN 'own' ELSE shared.role END AS access,
    (SELECT count(*) FROM messages m LEFT JOIN seen ON seen.session_id = s.id AND seen.owner = $1
     WHERE m.session_id = s.id AND NOT m.limb AND m.role = 'assistant' AND m.seq > coalesce(seen.seq, 0)) AS unread
FROM sessions s LEFT JOIN shared ON shared.session_id = s.id
WHERE (s.owner = $1 OR shared.role IS NOT NULL)
  AND ($2::text IS NULL OR strpos(lower(title), lower($2)) > 0
       OR EXISTS (SELECT FROM messages m WHERE m.session_id = s.id AND strpos(lower(m.content), lower($2)) > 0))
  AND ($3::text IS NULL OR status = $3)
  AND ($4::text IS NULL OR agent = $4)
  AND ($5::jsonb IS NULL OR metadata @> $5)
ORDER BY last_activity DESC, id LIMIT $6 OFFSET $7;

-- name: count_sessions
SELECT count(*) FROM sessions s
WHERE (owner = $1 OR id IN (SELECT session_id FROM shares
                            WHERE user_name = $1 AND (expires_at IS NULL OR expires_at > now())))
  AND ($2::text IS NULL OR strpos(lower(title), lower($2)) > 0
       OR EXISTS (SELECT FROM messages m WHERE m.session_id = s.id AND strpos(lower(m.content), lower($2)) > 0))
  AND ($3::text IS NULL OR status = $3)
  AND ($4::text IS NULL OR agent = $4)
  AND ($5::jsonb IS NULL OR metadata @> $5);

-- name: unread
SELECT count(*) FROM messages m
WHERE m.session_id = $1 AND NOT m.limb AND m.role = 'assistant'
  AND m.seq > coalesce((SELECT seq FROM seen WHERE session_id = $1 AND owner = $2), 0);

-- name: saw
INSERT INTO seen (owner, session_id, seq) VALUES ($1, $2, $3)
ON CONFLICT (owner, session_id) DO UPDATE SET seq = greatest(seen.seq, excluded.seq);

-- name: last_run
SELECT r.source, r.text, r.status FROM cell_runs r LEFT JOIN turns t ON t.id = r.turn_id
WHERE r.session_id = $1 AND t.limb IS NOT TRUE ORDER BY r.started_at DESC LIMIT 1;

-- name: message
SELECT * FROM messages WHERE id = $1;

-- name: delete_session
WITH gone AS (DELETE FROM sessions WHERE id = $1 RETURNING id)
SELECT pg_notify('cellwright_events', id || ':0:session.deleted') FROM gone;

-- name: lock_session
SELECT turn_count, status, context FROM sessions WHERE id = $1 FOR UPDATE;

-- name: turn
SELECT * FROM turns WHERE id = $1;

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
-- Those of the turns, and those that a client added since the first of them; for $3 since ever.
SELECT * FROM messages
WHERE turn_id = ANY ($1::uuid[])
   OR (session_id = $2 AND turn_id IS NULL AND NOT limb
       AND ($3 OR seq > (SELECT min(seq) FROM events WHERE turn_id = ($1::uuid[])[1])))
ORDER BY seq;

-- name: list_messages
SELECT * FROM messages WHERE session_id = $1 AND NOT limb ORDER BY seq LIMIT $2 OFFSET $3;

-- name: count_messages
SELECT count(*) FROM messages WHERE session_id = $1 AND NOT limb;

-- name: message_artifacts
SELECT id, message_id, turn_id FROM artifacts
WHERE session_id = $1 AND status = 'ready' AND turn_id = ANY ($2::uuid[]) ORDER BY created_at;

-- name: runs_of_turn
SELECT * FROM cell_runs WHERE turn_id = $1 ORDER BY started_at;

-- name: fatal_runs
-- Cells that last ended with their kernel, and what they were then.
SELECT cell_id, source FROM (
    SELECT DISTINCT ON (cell_id) cell_id, source, status FROM cell_runs
    WHERE session_id = $1 AND status IS NOT NULL ORDER BY cell_id, started_at DESC
) last WHERE status = 'kernel_died';

-- name: with_kernels
-- Sessions whose kernel is one of $1; those with any, for null.
SELECT id, kernel_id, kernel_incarnation FROM sessions
WHERE kernel_id IS NOT NULL AND ($1::text[] IS NULL OR kernel_id = ANY ($1));

-- name: last_activity
SELECT id, last_activity FROM sessions WHERE id = ANY ($1::uuid[]);

-- name: artifact_names
SELECT a.name FROM artifacts a LEFT JOIN turns t ON t.id = a.turn_id
WHERE a.session_id = $1 AND a.status = 'ready' AND NOT a.limb AND ($2::integer IS NULL OR t.n IS NULL OR t.n <= $2)
GROUP BY a.name ORDER BY min(a.created_at);

-- name: unused_for
SELECT id FROM sessions s
WHERE last_activity < now() - make_interval(secs => $1) AND ($2::uuid IS NULL OR id = $2)
  AND NOT EXISTS (SELECT FROM turns t WHERE t.session_id = s.id AND t.status IN ('queued', 'running'))
LIMIT 1000;

-- name: hibernated
SELECT count(*) FROM sessions WHERE status = 'hibernated';

-- name: titles_of_branches
SELECT title FROM sessions WHERE owner = $1 AND parent_session_id IS NOT NULL;

-- name: set_parent
UPDATE sessions SET parent_session_id = $2, parent_turn = $3 WHERE id = $1;

-- name: snapshots
SELECT s.revision, s.turn_id, t.n, t.limb, s.created_at FROM snapshots s JOIN turns t ON t.id = s.turn_id
WHERE s.session_id = $1 ORDER BY t.n LIMIT $2 OFFSET $3;

-- name: count_snapshots
SELECT count(*) FROM snapshots WHERE session_id = $1;
