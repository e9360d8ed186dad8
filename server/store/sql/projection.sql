-- name: change_session
UPDATE sessions SET
    agent = coalesce($2::jsonb ->> 'agent', agent),
    model = CASE WHEN $2::jsonb ? 'model' THEN $2::jsonb ->> 'model' ELSE model END,
    metadata = coalesce($2::jsonb -> 'metadata', metadata),
    preferences = coalesce($2::jsonb -> 'preferences', preferences)
WHERE id = $1;

-- name: set_title
UPDATE sessions SET title = $2, title_by = $3 WHERE id = $1;

-- name: insert_turn
WITH counted AS (UPDATE sessions SET turn_count = greatest(turn_count, $3) WHERE id = $2)
INSERT INTO turns (id, session_id, n, query, request, created_at) VALUES ($1, $2, $3, $4, $5, $6);

-- name: start_turn
-- What is asked ends what could be redone; what the user did by themselves does not.
WITH was AS (SELECT head_turn_id, line, revision, workspace_version FROM sessions WHERE id = $3),
     own AS (SELECT request ->> 'kind' = 'edit' AS is FROM turns WHERE id = $1),
     moved AS (UPDATE sessions SET head_turn_id = $1, status = 'active',
                   redo = CASE WHEN own.is THEN redo ELSE '[]' END
               FROM own WHERE sessions.id = $3)
UPDATE turns SET status = 'running', started_at = $2, parent_id = was.head_turn_id,
    before = jsonb_build_object('line', cut_line(was.line, $4 - 1), 'revision', was.revision,
                                'workspace_version', was.workspace_version)
FROM was WHERE id = $1;

-- name: end_turn
UPDATE turns SET status = $2, answer = $3, cause = $4, usage = $5, ended_at = $6,
    revision = s.revision, workspace_version = s.workspace_version, line = cut_line(s.line, $7)
FROM sessions s
WHERE turns.id = $1 AND s.id = turns.session_id;

-- name: move_head
UPDATE sessions SET head_turn_id = $2, redo = $3, context = $4, summary = $5, workspace_version = $6, moving = NULL,
    line = $7::jsonb || jsonb_build_array(jsonb_build_array($8::bigint, NULL))
WHERE id = $1;

-- name: set_moving
UPDATE sessions SET moving = $2 WHERE id = $1;

-- name: mark_limbs
SELECT mark_limbs($1);

-- name: insert_workspace
INSERT INTO workspace_versions (session_id, version, files, left_out) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING;

-- name: set_workspace
UPDATE sessions SET workspace_version = $2 WHERE id = $1;

-- name: refer_all
INSERT INTO object_refs (sha256, session_id, holder) SELECT DISTINCT unnest($1::text[]), $2::uuid, $3
ON CONFLICT DO NOTHING;

-- name: rest_session
UPDATE sessions SET status = 'idle' WHERE id = $1;

-- name: add_usage
UPDATE sessions SET usage = $2 WHERE id = $1;

-- name: read_usage
SELECT usage FROM sessions WHERE id = $1;

-- name: insert_snapshot
INSERT INTO snapshots (session_id, revision, turn_id)
SELECT id, revision, $2 FROM sessions WHERE id = $1 ON CONFLICT DO NOTHING;

-- name: insert_message
WITH counted AS (
    UPDATE sessions SET message_count = message_count + 1,
        last_message_preview = CASE WHEN $17 = '' THEN last_message_preview ELSE $17 END
    WHERE id = $2
)
INSERT INTO messages (id, session_id, turn_id, seq, role, content, code, thoughts, tool_calls, token_count,
                      model, agent, response_time_ms, is_error, metadata, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16);

-- name: edit_message
WITH edited AS (UPDATE messages SET content = $2 WHERE id = $1 RETURNING session_id, seq)
UPDATE sessions SET last_message_preview = $3
FROM edited
WHERE id = edited.session_id
  AND edited.seq = (SELECT max(seq) FROM messages m
                    WHERE m.session_id = edited.session_id AND NOT m.limb AND m.content <> '');

-- name: delete_message
WITH gone AS (DELETE FROM messages WHERE id = $1 AND session_id = $2 RETURNING session_id)
UPDATE sessions SET message_count = message_count - 1,
    last_message_preview = coalesce((
        SELECT left(regexp_replace(content, '\s+', ' ', 'g'), 100) FROM messages
        WHERE session_id = $2 AND id <> $1 AND NOT limb AND content <> '' ORDER BY seq DESC LIMIT 1), '')
WHERE id IN (SELECT session_id FROM gone);

-- name: set_context
UPDATE sessions SET context = $2 WHERE id = $1;

-- name: set_summary
UPDATE sessions SET summary = $2 WHERE id = $1;

-- name: change_artifact
UPDATE artifacts SET
    kind = coalesce($2::jsonb ->> 'kind', kind),
    description = coalesce($2::jsonb ->> 'description', description),
    tags = coalesce($2::jsonb -> 'tags', tags),
    parents = coalesce($2::jsonb -> 'parents', parents),
    expires_at = CASE WHEN $2::jsonb ? 'expires_at' THEN ($2::jsonb ->> 'expires_at')::timestamptz ELSE expires_at END
WHERE id = $1;

-- name: delete_artifact
WITH gone AS (DELETE FROM artifacts WHERE id = $1 AND session_id = $2 RETURNING id, sha256)
DELETE FROM object_refs r USING gone
WHERE r.sha256 = gone.sha256 AND r.session_id = $2 AND r.holder = 'artifact:' || gone.id;

-- name: add_tool_result
UPDATE messages SET tool_results = tool_results || jsonb_build_array($2::jsonb) WHERE id = $1;

-- name: add_execution_log
UPDATE messages SET execution_logs = execution_logs || jsonb_build_array($2::jsonb) WHERE id = $1;

-- name: insert_run
INSERT INTO cell_runs (execution_id, session_id, turn_id, message_id, cell_id, call_id, source, purpose,
                       kernel_id, kernel_incarnation, started_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11);

-- name: end_run
UPDATE cell_runs SET status = $2, cause = $3, execution_count = $4, duration_ms = $5, ended_at = $6, text = $7
WHERE execution_id = $1;

-- name: set_revision
UPDATE sessions SET revision = $2 WHERE id = $1;

-- name: put_cell
SELECT put_cell($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11);

-- name: place_behind
SELECT place_behind($1, $2);

-- name: cell_now
SELECT c.version, c.place, v.kind, v.source, v.outputs, v.execution_count, v.metadata
FROM notebook_cells c JOIN cell_versions v USING (session_id, version)
WHERE c.session_id = $1 AND c.cell_id = $2 AND c.until_revision IS NULL;

-- name: close_cell
UPDATE notebook_cells SET until_revision = $3 WHERE session_id = $1 AND cell_id = $2 AND until_revision IS NULL;

-- name: open_cell
INSERT INTO notebook_cells (session_id, cell_id, version, place, from_revision) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (session_id, cell_id, from_revision)
    DO UPDATE SET version = excluded.version, place = excluded.place, until_revision = NULL;

-- name: drop_empty_intervals
DELETE FROM notebook_cells
WHERE session_id = $1 AND cell_id = $2 AND from_revision = $3 AND until_revision = $3;

-- name: artifact_is_ready
UPDATE artifacts SET status = 'ready', sha256 = $2, size_bytes = $3, metadata = $4, seq = $5 WHERE id = $1;

-- name: set_kernel
-- News of an older kernel's death that comes late must not take the newer one away.
UPDATE sessions SET
    kernel_id = $2,
    kernel_incarnation = $3,
    status = CASE WHEN $4 THEN 'hibernated' WHEN status = 'hibernated' THEN 'idle' ELSE status END
WHERE id = $1 AND kernel_incarnation <= $3;
