-- The database as it is today. `migrations/` leads to the same; a test compares them.

CREATE TABLE sessions (
    id uuid PRIMARY KEY,
    owner text NOT NULL,
    key text,
    title text NOT NULL,
    title_by text NOT NULL DEFAULT 'default' CHECK (title_by IN ('default', 'model', 'user')),
    agent text NOT NULL,
    model text,
    kernel_name text,
    status text NOT NULL DEFAULT 'idle' CHECK (status IN ('active', 'idle', 'hibernated', 'expired')),
    notebook_path text NOT NULL,
    workspace text NOT NULL,
    metadata jsonb NOT NULL DEFAULT '{}',
    preferences jsonb NOT NULL DEFAULT '{}',
    message_count integer NOT NULL DEFAULT 0,
    turn_count integer NOT NULL DEFAULT 0,
    last_message_preview text NOT NULL DEFAULT '',
    usage jsonb NOT NULL DEFAULT '{}',
    -- The log's and the notebook's position; the tip of the tree of turns.
    seq bigint NOT NULL DEFAULT 0,
    revision bigint NOT NULL DEFAULT 0,
    head_turn_id uuid,
    -- Who may write turns: the lease and its fence, on the database's clock.
    lease_owner text,
    generation bigint NOT NULL DEFAULT 0,
    lease_expires_at timestamptz,
    kernel_id text,
    kernel_incarnation integer NOT NULL DEFAULT 0,
    parent_session_id uuid,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    last_activity timestamptz NOT NULL DEFAULT now(),
    -- What it knows by itself, and the summary that stands for its older turns.
    context jsonb NOT NULL DEFAULT '{}',
    summary jsonb,
    -- What lies on the way to the head: ranges of the log, [first, last] with null for an open end. What a rewind left
    -- behind is a limb. `redo` are the turns that an undo came from, the next one last.
    line jsonb NOT NULL DEFAULT '[[1, null]]',
    redo jsonb NOT NULL DEFAULT '[]',
    workspace_version text,
    parent_turn integer,
    moving jsonb,
    UNIQUE (owner, key)
);
CREATE INDEX sessions_by_parent ON sessions (parent_session_id) WHERE parent_session_id IS NOT NULL;
CREATE INDEX sessions_moving ON sessions (id) WHERE moving IS NOT NULL;
CREATE INDEX sessions_by_activity ON sessions (owner, last_activity DESC, id);
CREATE INDEX sessions_by_lease ON sessions (lease_owner, lease_expires_at) WHERE lease_owner IS NOT NULL;

CREATE TABLE events (
    session_id uuid NOT NULL REFERENCES sessions ON DELETE CASCADE,
    seq bigint NOT NULL,
    turn_id uuid,
    type text NOT NULL,
    payload jsonb NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (session_id, seq)
);
CREATE INDEX events_by_turn ON events (turn_id, seq) WHERE turn_id IS NOT NULL;
CREATE INDEX events_of_kernels ON events (session_id, seq) WHERE type = 'kernel.changed';

CREATE TABLE turns (
    id uuid PRIMARY KEY,
    session_id uuid NOT NULL REFERENCES sessions ON DELETE CASCADE,
    n integer NOT NULL,
    parent_id uuid,
    status text NOT NULL DEFAULT 'queued'
        CHECK (status IN ('queued', 'running', 'completed', 'failed', 'stopped', 'interrupted')),
    query text NOT NULL,
    request jsonb NOT NULL DEFAULT '{}',
    answer text,
    cause text,
    usage jsonb NOT NULL DEFAULT '{}',
    revision bigint,
    stop_requested boolean NOT NULL DEFAULT false,
    metadata jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    ended_at timestamptz,
    limb boolean NOT NULL DEFAULT false,
    -- The way to its end, and the files that there were then; and the same, with the revision, of its beginning.
    line jsonb,
    workspace_version text,
    before jsonb,
    UNIQUE (session_id, n)
);
CREATE INDEX turns_open ON turns (session_id, n) WHERE status IN ('queued', 'running');

CREATE TABLE messages (
    id uuid PRIMARY KEY,
    session_id uuid NOT NULL REFERENCES sessions ON DELETE CASCADE,
    turn_id uuid REFERENCES turns ON DELETE CASCADE,
    seq bigint NOT NULL,
    role text NOT NULL CHECK (role IN ('user', 'assistant', 'system')),
    content text NOT NULL,
    code text,
    thoughts text,
    tool_calls jsonb NOT NULL DEFAULT '[]',
    tool_results jsonb NOT NULL DEFAULT '[]',
    token_count integer NOT NULL DEFAULT 0,
    model text,
    agent text,
    response_time_ms integer,
    is_error boolean NOT NULL DEFAULT false,
    execution_logs jsonb NOT NULL DEFAULT '[]',
    metadata jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    limb boolean NOT NULL DEFAULT false
);
CREATE INDEX messages_in_order ON messages (session_id, seq);
CREATE INDEX messages_by_turn ON messages (turn_id, seq);

-- A cell's versions never change; each is named by its content.
CREATE TABLE cell_versions (
    session_id uuid NOT NULL REFERENCES sessions ON DELETE CASCADE,
    version text NOT NULL,
    kind text NOT NULL,
    source text NOT NULL,
    outputs jsonb NOT NULL,
    execution_count integer,
    metadata jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (session_id, version)
);

-- Which version of which cell stood where, from one revision until before another: the notebook at any
-- revision is one range query, and a turn adds only what it changed.
CREATE TABLE notebook_cells (
    session_id uuid NOT NULL REFERENCES sessions ON DELETE CASCADE,
    cell_id text NOT NULL,
    version text NOT NULL,
    place numeric NOT NULL,
    from_revision bigint NOT NULL,
    until_revision bigint,
    PRIMARY KEY (session_id, cell_id, from_revision)
);
CREATE UNIQUE INDEX notebook_cells_now ON notebook_cells (session_id, cell_id) WHERE until_revision IS NULL;
CREATE INDEX notebook_cells_in_order ON notebook_cells (session_id, place) WHERE until_revision IS NULL;
CREATE INDEX notebook_cells_ended ON notebook_cells (session_id, until_revision) WHERE until_revision IS NOT NULL;

CREATE TABLE cell_runs (
    execution_id uuid PRIMARY KEY,
    session_id uuid NOT NULL REFERENCES sessions ON DELETE CASCADE,
    turn_id uuid,
    message_id uuid,
    cell_id text NOT NULL,
    call_id text,
    source text NOT NULL,
    purpose text NOT NULL DEFAULT '',
    status text,
    cause text,
    execution_count integer,
    duration_ms integer,
    kernel_id text,
    kernel_incarnation integer NOT NULL DEFAULT 0,
    started_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz,
    text text NOT NULL DEFAULT ''
);
CREATE INDEX cell_runs_by_turn ON cell_runs (turn_id, started_at);
CREATE INDEX cell_runs_by_session ON cell_runs (session_id, started_at);

CREATE TABLE snapshots (
    session_id uuid NOT NULL REFERENCES sessions ON DELETE CASCADE,
    revision bigint NOT NULL,
    turn_id uuid REFERENCES turns ON DELETE CASCADE,
    metadata jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (session_id, revision, turn_id)
);

CREATE TABLE checkpoints (
    id uuid PRIMARY KEY,
    session_id uuid NOT NULL REFERENCES sessions ON DELETE CASCADE,
    turn_id uuid REFERENCES turns ON DELETE CASCADE,
    seq bigint NOT NULL,
    revision bigint NOT NULL,
    label text,
    variables jsonb NOT NULL DEFAULT '{}',
    size_bytes bigint NOT NULL DEFAULT 0,
    metadata jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX checkpoints_by_session ON checkpoints (session_id, seq);

-- Bytes named by their content. An object is there as long as a reference is.
CREATE TABLE objects (
    sha256 text PRIMARY KEY,
    size_bytes bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE artifacts (
    id uuid PRIMARY KEY,
    session_id uuid NOT NULL REFERENCES sessions ON DELETE CASCADE,
    turn_id uuid,
    message_id uuid,
    cell_id text,
    name text NOT NULL,
    file_type text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('result', 'intermediate', 'debug', 'context', 'data', 'model')),
    mime_type text NOT NULL,
    size_bytes bigint NOT NULL DEFAULT 0,
    sha256 text,
    status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'ready', 'failed')),
    description text NOT NULL DEFAULT '',
    tags jsonb NOT NULL DEFAULT '{}',
    parents jsonb NOT NULL DEFAULT '[]',
    derived_from text,
    created_by text NOT NULL,
    access_count integer NOT NULL DEFAULT 0,
    last_accessed timestamptz,
    expires_at timestamptz,
    metadata jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    limb boolean NOT NULL DEFAULT false,
    seq bigint
);
CREATE INDEX artifacts_by_session ON artifacts (session_id, created_at DESC);
CREATE INDEX artifacts_by_object ON artifacts (sha256);

CREATE TABLE object_refs (
    sha256 text NOT NULL REFERENCES objects,
    session_id uuid NOT NULL REFERENCES sessions ON DELETE CASCADE,
    holder text NOT NULL,
    PRIMARY KEY (sha256, session_id, holder)
);
CREATE INDEX object_refs_by_session ON object_refs (session_id);

-- Puts a version of a cell in its place, in one round trip: where the cell stands; or behind the cell `after` if it
-- is not there yet, before all when `after` is null, at the end when that one is gone.
CREATE FUNCTION put_cell(
    in_session uuid, in_cell text, in_version text, in_kind text, in_source text, in_outputs jsonb, in_count integer,
    in_metadata jsonb, in_objects text[], in_after text, in_seq bigint
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    at_place numeric;
BEGIN
    INSERT INTO cell_versions (session_id, version, kind, source, outputs, execution_count, metadata)
    VALUES (in_session, in_version, in_kind, in_source, in_outputs, in_count, in_metadata) ON CONFLICT DO NOTHING;
    INSERT INTO object_refs (sha256, session_id, holder)
    SELECT object, in_session, 'cell:' || in_version FROM unnest(in_objects) AS object ON CONFLICT DO NOTHING;

    UPDATE notebook_cells SET until_revision = in_seq
    WHERE session_id = in_session AND cell_id = in_cell AND until_revision IS NULL
    RETURNING place INTO at_place;
    IF at_place IS NULL THEN
        at_place := place_behind(in_session, in_after);
    ELSE
        DELETE FROM notebook_cells WHERE session_id = in_session AND cell_id = in_cell
            AND from_revision = in_seq AND until_revision = in_seq;
    END IF;
    INSERT INTO notebook_cells (session_id, cell_id, version, place, from_revision)
    VALUES (in_session, in_cell, in_version, at_place, in_seq)
    ON CONFLICT (session_id, cell_id, from_revision)
        DO UPDATE SET version = excluded.version, place = excluded.place, until_revision = NULL;
    UPDATE sessions SET revision = in_seq WHERE id = in_session;
END $$;

-- A place between the cell `after` and the next one. Halving is exact in `numeric` when it multiplies.
CREATE FUNCTION place_behind(in_session uuid, in_after text) RETURNS numeric LANGUAGE plpgsql AS $$
DECLARE
    behind numeric;
    following numeric;
BEGIN
    IF in_after IS NULL THEN
        SELECT min(place) - 1 INTO behind FROM notebook_cells WHERE session_id = in_session AND until_revision IS NULL;
        RETURN coalesce(behind, 1);
    END IF;
    SELECT place INTO behind FROM notebook_cells
    WHERE session_id = in_session AND cell_id = in_after AND until_revision IS NULL;
    IF behind IS NULL THEN -- Deleted meanwhile: the end is the place that surprises least.
        SELECT max(place) + 1 INTO behind FROM notebook_cells WHERE session_id = in_session AND until_revision IS NULL;
        RETURN coalesce(behind, 1);
    END IF;
    SELECT min(place) INTO following FROM notebook_cells
    WHERE session_id = in_session AND until_revision IS NULL AND place > behind;
    IF following IS NULL THEN
        RETURN behind + 1;
    END IF;
    IF scale((behind + following) * 0.5) > 100 THEN
        -- A hundred cells at one spot. Places are numbered anew: all that ever were, so that no revision changes.
        UPDATE notebook_cells AS cell SET place = numbered.n
        FROM (SELECT place, dense_rank() OVER (ORDER BY place) AS n FROM notebook_cells WHERE session_id = in_session)
            AS numbered
        WHERE cell.session_id = in_session AND cell.place = numbered.place;
        RETURN place_behind(in_session, in_after);
    END IF;
    RETURN (behind + following) * 0.5;
END $$;

-- The words of a text, those of file names and code too, in any language.
CREATE FUNCTION words(in_text text) RETURNS tsvector LANGUAGE sql IMMUTABLE AS $$
    SELECT to_tsvector('simple'::regconfig, translate(left(in_text, 100000), '._-/\:(){}[]<>=+*",;''`|', '                        '))
$$;
CREATE INDEX messages_by_words ON messages USING gin (words(content));
CREATE INDEX cell_runs_by_source ON cell_runs USING gin (words(source));
CREATE INDEX cell_runs_by_text ON cell_runs USING gin (words(text));
CREATE INDEX artifacts_by_words ON artifacts USING gin (words(name || ' ' || description));
CREATE INDEX artifacts_by_expiry ON artifacts (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX events_of_usage ON events (at) WHERE type IN ('message.completed', 'usage');
CREATE INDEX artifacts_by_parents ON artifacts USING gin (parents);
CREATE INDEX artifacts_by_origin ON artifacts (derived_from) WHERE derived_from IS NOT NULL;

-- With a user, or with whoever holds a link.
CREATE TABLE shares (
    id uuid PRIMARY KEY,
    session_id uuid NOT NULL REFERENCES sessions ON DELETE CASCADE,
    role text NOT NULL CHECK (role IN ('read', 'write')),
    user_name text,
    token_hash text UNIQUE,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    CHECK ((user_name IS NULL) <> (token_hash IS NULL)),
    UNIQUE (session_id, user_name)
);
CREATE INDEX shares_by_user ON shares (user_name) WHERE user_name IS NOT NULL;

CREATE TABLE preferences (
    owner text PRIMARY KEY,
    chosen jsonb NOT NULL DEFAULT '{}',
    updated_at timestamptz NOT NULL DEFAULT now()
);

-- Up to which event each user has seen a session.
CREATE TABLE seen (
    owner text NOT NULL,
    session_id uuid NOT NULL REFERENCES sessions ON DELETE CASCADE,
    seq bigint NOT NULL,
    PRIMARY KEY (owner, session_id)
);

-- Answers to requests that carried an Idempotency-Key; no status yet: under way.
CREATE TABLE repeats (
    owner text NOT NULL,
    key text NOT NULL,
    request text NOT NULL,
    status integer,
    answer jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (owner, key)
);
CREATE INDEX repeats_by_age ON repeats (created_at);

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
