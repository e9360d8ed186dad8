-- What a session knows by itself, and the summary that stands for its older turns.
ALTER TABLE sessions ADD COLUMN context jsonb NOT NULL DEFAULT '{}';
ALTER TABLE sessions ADD COLUMN summary jsonb;

-- What a run showed, in words.
ALTER TABLE cell_runs ADD COLUMN text text NOT NULL DEFAULT '';

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
