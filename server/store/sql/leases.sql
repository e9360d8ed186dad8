-- name: claim_lease
-- Its holder keeps it with the same generation; another gets it, with the next, only after it expired.
UPDATE sessions SET
    generation = CASE WHEN lease_owner = $2 AND lease_expires_at > now() THEN generation ELSE generation + 1 END,
    lease_owner = $2,
    lease_expires_at = now() + make_interval(secs => $3)
WHERE id = $1 AND (lease_owner IS NULL OR lease_owner = $2 OR lease_expires_at <= now())
RETURNING generation;

-- name: renew_leases
UPDATE sessions SET lease_expires_at = now() + make_interval(secs => $2)
WHERE lease_owner = $1 AND id = ANY ($3::uuid[])
RETURNING id, generation;

-- name: release_lease
UPDATE sessions SET lease_owner = NULL, lease_expires_at = NULL WHERE id = $1 AND lease_owner = $2;

-- name: expire_all_leases
UPDATE sessions SET lease_expires_at = now() WHERE lease_owner IS NOT NULL AND lease_owner <> $1;

-- name: sessions_to_take
-- Those with turns to run, or with a move of the head that was begun.
SELECT s.id FROM sessions s
WHERE s.id IN (SELECT session_id FROM turns WHERE status IN ('queued', 'running')
               UNION SELECT id FROM sessions WHERE moving IS NOT NULL)
  AND (s.lease_owner IS NULL OR s.lease_owner = $1 OR s.lease_expires_at <= now());
