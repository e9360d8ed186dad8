-- name: search
-- $1 user, $2 words, $3 one session or null. Each word is looked for from its beginning.
WITH query AS (
    SELECT string_agg(quote_literal(w) || ':*', ' & ')::tsquery AS q FROM unnest($2::text[]) AS w
), mine AS (
    SELECT id, title FROM sessions
    WHERE (owner = $1 OR id IN (SELECT session_id FROM shares
                                WHERE user_name = $1 AND (expires_at IS NULL OR expires_at > now())))
      AND ($3::uuid IS NULL OR id = $3)
), found AS (
    SELECT 'message' AS kind, m.id::text AS id, m.session_id, m.turn_id, m.content AS text, m.created_at AS at
    FROM messages m, query WHERE words(m.content) @@ q AND m.session_id IN (SELECT id FROM mine)
    UNION ALL
    SELECT 'code', r.cell_id, r.session_id, r.turn_id, r.source, r.started_at
    FROM cell_runs r, query WHERE words(r.source) @@ q AND r.session_id IN (SELECT id FROM mine)
    UNION ALL
    SELECT 'output', r.cell_id, r.session_id, r.turn_id, r.text, r.started_at
    FROM cell_runs r, query WHERE words(r.text) @@ q AND r.session_id IN (SELECT id FROM mine)
    UNION ALL
    SELECT 'artifact', a.id::text, a.session_id, a.turn_id, a.name || ' ' || a.description, a.created_at
    FROM artifacts a, query
    WHERE words(a.name || ' ' || a.description) @@ q AND a.status = 'ready' AND a.session_id IN (SELECT id FROM mine)
), counted AS (
    SELECT count(*) AS total FROM (SELECT FROM found LIMIT 1000) AS first_ones
)
SELECT f.kind, f.id, f.session_id, mine.title AS session_title, f.turn_id, left(f.text, 20000) AS text, f.at, c.total
FROM found f JOIN mine ON mine.id = f.session_id, counted c
ORDER BY f.at DESC, f.kind, f.id LIMIT $4 OFFSET $5;
