-- name: add_object
INSERT INTO objects (sha256, size_bytes) VALUES ($1, $2)
ON CONFLICT (sha256) DO UPDATE SET created_at = now();

-- name: add_found
-- An object that is there without a row, as old as it is: a writer that wants the same makes it young.
INSERT INTO objects (sha256, size_bytes, created_at) VALUES ($1, 0, now() - make_interval(secs => $2))
ON CONFLICT DO NOTHING;

-- name: refer
INSERT INTO object_refs (sha256, session_id, holder) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING;

-- name: take_unreferenced
-- The lock on the object's row keeps a writer that is about to refer to it waiting until it is gone.
DELETE FROM objects o
WHERE o.sha256 = $1 AND NOT EXISTS (SELECT FROM object_refs r WHERE r.sha256 = o.sha256)
  AND o.created_at <= now() - make_interval(secs => $2)
RETURNING sha256;

-- name: unreferenced
SELECT sha256 FROM objects o
WHERE o.created_at < now() - make_interval(secs => $1)
  AND NOT EXISTS (SELECT FROM object_refs r WHERE r.sha256 = o.sha256)
LIMIT 1000;

-- name: objects_of_session
SELECT DISTINCT sha256 FROM object_refs WHERE session_id = $1;

-- name: shown_object
-- An object that a session shows: one that its cells or artifacts refer to, not what its checkpoints hold.
SELECT o.size_bytes FROM object_refs r JOIN objects o USING (sha256)
WHERE r.sha256 = $1 AND r.session_id = $2 AND (r.holder LIKE 'cell:%' OR r.holder LIKE 'artifact:%') LIMIT 1;

-- name: insert_artifact
INSERT INTO artifacts (id, session_id, turn_id, message_id, cell_id, name, file_type, kind, mime_type, description,
                       tags, parents, derived_from, created_by, metadata, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
RETURNING created_at;

-- name: forget_pending
DELETE FROM artifacts WHERE id = $1 AND status = 'pending';

-- name: artifact
SELECT * FROM artifacts WHERE id = $1 AND status = 'ready';

-- name: lock_artifact
SELECT id FROM artifacts WHERE id = $1 AND status = 'ready' FOR SHARE;

-- name: ancestors
WITH RECURSIVE line (id, depth) AS (
    SELECT unnest($1::uuid[]), 1
    UNION
    SELECT parent.id::uuid, line.depth + 1
    FROM line JOIN artifacts a ON a.id = line.id, jsonb_array_elements_text(a.parents) AS parent (id)
    WHERE line.depth < 50
)
SELECT a.* FROM (SELECT id, min(depth) AS depth FROM line GROUP BY id) AS nearest JOIN artifacts a USING (id)
WHERE a.status = 'ready' ORDER BY nearest.depth, a.created_at;

-- name: children
SELECT * FROM artifacts WHERE (parents ? $1::text OR derived_from = $1::text) AND status = 'ready' ORDER BY created_at;

-- name: expired
SELECT * FROM artifacts WHERE expires_at <= now() AND status = 'ready' ORDER BY expires_at LIMIT 1000;

-- name: count_pending
SELECT count(*) FROM artifacts WHERE status <> 'ready' AND created_at < now() - make_interval(secs => $1);

-- name: drop_pending
WITH gone AS (
    DELETE FROM artifacts WHERE status <> 'ready' AND created_at < now() - make_interval(secs => $1) RETURNING id
) SELECT count(*) FROM gone;

-- name: known_objects
SELECT sha256 FROM objects WHERE sha256 = ANY ($1::text[]);

-- name: referenced_objects
SELECT DISTINCT sha256 FROM object_refs WHERE sha256 > $1 ORDER BY sha256 LIMIT $2;

-- name: same_artifact
SELECT * FROM artifacts
WHERE session_id = $1 AND sha256 = $2 AND name = $3 AND status = 'ready' AND NOT limb LIMIT 1;

-- name: latest_named
SELECT DISTINCT ON (name) * FROM artifacts
WHERE session_id = $1 AND status = 'ready' AND NOT limb AND created_by = ANY ($2::text[])
ORDER BY name, created_at DESC;

-- name: artifacts_by_id
SELECT * FROM artifacts WHERE session_id = $1 AND status = 'ready' AND id = ANY ($2::uuid[]);

-- name: list_artifacts
SELECT * FROM artifacts
WHERE session_id = $1 AND status = 'ready' AND NOT limb
  AND ($2::text IS NULL OR kind = $2)
  AND ($3::text IS NULL OR file_type = $3)
  AND ($4::text IS NULL OR cell_id = $4)
  AND ($5::uuid IS NULL OR message_id = $5)
  AND ($6::jsonb IS NULL OR tags @> $6)
  AND ($7::text IS NULL OR tags ? $7)
ORDER BY created_at DESC, id LIMIT $8 OFFSET $9;

-- name: count_artifacts
SELECT count(*) FROM artifacts
WHERE session_id = $1 AND status = 'ready' AND NOT limb
  AND ($2::text IS NULL OR kind = $2)
  AND ($3::text IS NULL OR file_type = $3)
  AND ($4::text IS NULL OR cell_id = $4)
  AND ($5::uuid IS NULL OR message_id = $5)
  AND ($6::jsonb IS NULL OR tags @> $6)
  AND ($7::text IS NULL OR tags ? $7);

-- name: count_access
UPDATE artifacts SET access_count = access_count + 1, last_accessed = now() WHERE id = $1;

-- name: set_created
UPDATE artifacts SET created_at = $2 WHERE id = $1;

-- name: ready_ids
SELECT id FROM artifacts WHERE session_id = $1 AND status = 'ready';
