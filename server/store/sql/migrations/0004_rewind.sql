-- What lies on the way to the head, and what a rewind left behind: a limb. A line is a list of ranges of the log,
-- [first, last] with null for an open end, that lead to a state.
ALTER TABLE sessions ADD COLUMN line jsonb NOT NULL DEFAULT '[[1, null]]';
ALTER TABLE sessions ADD COLUMN redo jsonb NOT NULL DEFAULT '[]';
ALTER TABLE sessions ADD COLUMN workspace_version text;
ALTER TABLE sessions ADD COLUMN parent_turn integer;
ALTER TABLE sessions ADD COLUMN moving jsonb;
CREATE INDEX sessions_moving ON sessions (id) WHERE moving IS NOT NULL;
CREATE INDEX sessions_by_parent ON sessions (parent_session_id) WHERE parent_session_id IS NOT NULL;

ALTER TABLE turns ADD COLUMN limb boolean NOT NULL DEFAULT false;
ALTER TABLE turns ADD COLUMN line jsonb;
ALTER TABLE turns ADD COLUMN workspace_version text;
ALTER TABLE turns ADD COLUMN before jsonb;
UPDATE turns SET line = jsonb_build_array(jsonb_build_array(1, (SELECT max(seq) FROM events WHERE turn_id = turns.id)))
WHERE ended_at IS NOT NULL;

-- What a session sleeps with is what there was at its head.
UPDATE checkpoints c SET turn_id = s.head_turn_id FROM sessions s
WHERE s.id = c.session_id AND s.status = 'hibernated' AND c.metadata ->> 'kind' = 'hibernated'
  AND (c.metadata ->> 'incarnation')::integer = s.kernel_incarnation;

ALTER TABLE messages ADD COLUMN limb boolean NOT NULL DEFAULT false;

ALTER TABLE artifacts ADD COLUMN limb boolean NOT NULL DEFAULT false;
ALTER TABLE artifacts ADD COLUMN seq bigint;
UPDATE artifacts SET seq = (
    SELECT min(seq) FROM events e
    WHERE e.session_id = artifacts.session_id AND e.type IN ('artifact.ready', 'file.uploaded')
      AND e.payload -> 'artifact' ->> 'id' = artifacts.id::text
);

-- A workspace's files at some point, named by their content. What they hold stands in the object store.
CREATE TABLE workspace_versions (
    session_id uuid NOT NULL REFERENCES sessions ON DELETE CASCADE,
    version text NOT NULL,
    files jsonb NOT NULL,
    left_out jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (session_id, version)
);

-- Whether an event lies on a line.
CREATE FUNCTION on_line(in_seq bigint, in_line jsonb) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT EXISTS (SELECT FROM jsonb_array_elements(in_line) AS part
                   WHERE in_seq >= (part ->> 0)::bigint AND (part ->> 1 IS NULL OR in_seq <= (part ->> 1)::bigint))
$$;

-- A line that is cut behind an event.
CREATE FUNCTION cut_line(in_line jsonb, in_seq bigint) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce(jsonb_agg(jsonb_build_array(part -> 0, least(coalesce((part ->> 1)::bigint, in_seq), in_seq))
                              ORDER BY (part ->> 0)::bigint), '[]')
    FROM jsonb_array_elements(in_line) AS part WHERE (part ->> 0)::bigint <= in_seq
$$;

-- Marks what of a session is not on the way to its head any more, and what is again.
CREATE FUNCTION mark_limbs(in_session uuid) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    now_line jsonb;
    way uuid[];
BEGIN
    SELECT line INTO now_line FROM sessions WHERE id = in_session;
    WITH RECURSIVE path AS (
        SELECT t.id, t.parent_id FROM turns t JOIN sessions s ON s.head_turn_id = t.id WHERE s.id = in_session
        UNION ALL
        SELECT t.id, t.parent_id FROM turns t JOIN path p ON t.id = p.parent_id
    )
    SELECT coalesce(array_agg(id), '{}') INTO way FROM (
        SELECT id FROM path
        UNION -- What is asked meanwhile will follow the head.
        SELECT id FROM turns WHERE session_id = in_session AND status IN ('queued', 'running')
    ) AS found;
    UPDATE turns SET limb = NOT id = ANY (way)
    WHERE session_id = in_session AND limb = (id = ANY (way));
    UPDATE messages SET limb = NOT limb
    WHERE session_id = in_session
      AND limb = CASE WHEN turn_id IS NULL THEN on_line(seq, now_line) ELSE turn_id = ANY (way) END;
    -- Edited ones read as they did there.
    UPDATE messages SET content = told.content FROM (
        SELECT DISTINCT ON (id) id, content FROM (
            SELECT payload ->> 'message_id' AS id, payload ->> 'content' AS content, seq FROM events
            WHERE session_id = in_session AND type = 'message.edited' AND on_line(seq, now_line)
            UNION ALL
            (SELECT DISTINCT ON (payload ->> 'message_id') payload ->> 'message_id', payload ->> 'former', 0 FROM events
             WHERE session_id = in_session AND type = 'message.edited' ORDER BY payload ->> 'message_id', seq)
        ) AS texts ORDER BY id, seq DESC
    ) AS told WHERE messages.id = told.id::uuid AND messages.content <> told.content;
    UPDATE artifacts SET limb = NOT limb
    WHERE session_id = in_session AND status = 'ready' AND seq IS NOT NULL
      AND limb = CASE WHEN turn_id IS NULL THEN on_line(seq, now_line) ELSE turn_id = ANY (way) END;
    UPDATE sessions SET
        message_count = (SELECT count(*) FROM messages WHERE session_id = in_session AND NOT limb),
        last_message_preview = coalesce((
            SELECT left(regexp_replace(content, '\s+', ' ', 'g'), 100) FROM messages
            WHERE session_id = in_session AND NOT limb AND content <> '' ORDER BY seq DESC LIMIT 1), '')
    WHERE id = in_session;
END $$;
