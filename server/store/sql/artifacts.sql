-- name: add_object
INSERT INTO objects (sha256, size_bytes) VALUES ($1, $2)
ON CONFLICT (sha256) DO UPDATE SET created_at = now();

-- name: refer
INSERT INTO object_refs (sha256, session_id, holder) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING;

-- name: unrefer
DELETE FROM object_refs WHERE sha256 = $1 AND session_id = $2 AND holder = $3;

-- name: take_unreferenced
-- The lock on the object's row keeps a writer that is about to refer to it waiting until it is gone.
DELETE FROM objects o
WHERE o.sha256 = $1 AND NOT EXISTS (SELECT FROM object_refs r WHERE r.sha256 = o.sha256)
RETURNING sha256;

-- name: unreferenced
SELECT sha256 FROM objects o
WHERE o.created_at < now() - make_interval(secs => $1)
  AND NOT EXISTS (SELECT FROM object_refs r WHERE r.sha256 = o.sha256)
LIMIT 1000;

-- name: objects_of_session
SELECT DISTINCT sha256 FROM object_refs WHERE session_id = $1;

-- name: insert_artifact
INSERT INTO artifacts (id, session_id, turn_id, message_id, cell_id, name, file_type, kind, mime_type, description,
                       tags, parents, derived_from, created_by, metadata)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
RETURNING created_at;

-- name: fail_artifact
UPDATE artifacts SET status = 'failed' WHERE id = $1 AND status = 'pending';

-- name: forget_pending
DELETE FROM artifacts WHERE id = $1 AND status = 'pending';

-- name: artifact
SELECT a.* FROM artifacts a JOIN sessions s ON s.id = a.session_id
WHERE a.id = $1 AND a.status = 'ready' AND ($2::text IS NULL OR s.owner = $2);

-- name: same_artifact
SELECT * FROM artifacts
WHERE session_id = $1 AND sha256 = $2 AND name = $3 AND status = 'ready' LIMIT 1;

-- name: latest_named
SELECT DISTINCT ON (name) * FROM artifacts
WHERE session_id = $1 AND status = 'ready' AND created_by IN ('upload', 'file')
ORDER BY name, created_at DESC;

-- name: artifacts_by_id
SELECT * FROM artifacts WHERE session_id = $1 AND status = 'ready' AND id = ANY ($2::uuid[]);

-- name: list_artifacts
SELECT * FROM artifacts
WHERE session_id = $1 AND status = 'ready'
  AND ($2::text IS NULL OR kind = $2)
  AND ($3::text IS NULL OR file_type = $3)
  AND ($4::text IS NULL OR cell_id = $4)
  AND ($5::uuid IS NULL OR message_id = $5)
ORDER BY created_at DESC, id LIMIT $6 OFFSET $7;

-- name: count_artifacts
SELECT count(*) FROM artifacts
WHERE session_id = $1 AND status = 'ready'
  AND ($2::text IS NULL OR kind = $2)
  AND ($3::text IS NULL OR file_type = $3)
  AND ($4::text IS NULL OR cell_id = $4)
  AND ($5::uuid IS NULL OR message_id = $5);

-- name: count_access
UPDATE artifacts SET access_count = access_count + 1, last_accessed = now() WHERE id = $1;

-- name: delete_artifact
DELETE FROM artifacts WHERE id = $1 RETURNING session_id, sha256;
