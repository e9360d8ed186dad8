-- name: begin
INSERT INTO repeats (owner, key, request) VALUES ($1, $2, $3)
ON CONFLICT (owner, key) DO UPDATE SET request = excluded.request, status = NULL, answer = NULL, created_at = now()
    WHERE repeats.created_at < now() - interval '24 hours'
RETURNING key;

-- name: find
SELECT request, status, answer FROM repeats WHERE owner = $1 AND key = $2;

-- name: finish
UPDATE repeats SET status = $3, answer = $4 WHERE owner = $1 AND key = $2;

-- name: forget
DELETE FROM repeats WHERE owner = $1 AND key = $2;

-- name: count_old
SELECT count(*) FROM repeats WHERE created_at < now() - make_interval(secs => $1);

-- name: prune
DELETE FROM repeats WHERE created_at < now() - make_interval(secs => $1);
