-- name: used
SELECT coalesce(CASE $2
           WHEN 'session' THEN e.session_id::text
           WHEN 'model' THEN coalesce(e.payload -> 'message' ->> 'model', e.payload ->> 'model')
           ELSE to_char(e.at AT TIME ZONE 'UTC', 'YYYY-MM-DD') END, '') AS "group",
    coalesce(sum((e.payload -> 'usage' ->> 'calls')::int), 0)::int AS calls,
    coalesce(sum((e.payload -> 'usage' ->> 'prompt_tokens')::bigint), 0)::bigint AS prompt_tokens,
    coalesce(sum((e.payload -> 'usage' ->> 'completion_tokens')::bigint), 0)::bigint AS completion_tokens,
    coalesce(sum((e.payload -> 'usage' ->> 'cost')::float8), 0)::float8 AS cost,
    (coalesce(sum((e.payload -> 'message' ->> 'response_time_ms')::bigint), 0) / 1000.0)::float8 AS seconds
FROM events e JOIN sessions s ON s.id = e.session_id
WHERE s.owner = $1 AND e.type IN ('message.completed', 'usage') AND (e.payload -> 'usage' ->> 'calls')::int > 0
  AND ($3::timestamptz IS NULL OR e.at >= $3) AND ($4::timestamptz IS NULL OR e.at < $4)
GROUP BY 1;
