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
