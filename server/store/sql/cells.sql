-- name: cells_now
SELECT c.cell_id, v.kind, v.source, v.outputs, v.execution_count, v.metadata
FROM notebook_cells c JOIN cell_versions v USING (session_id, version)
WHERE c.session_id = $1 AND c.until_revision IS NULL ORDER BY c.place;

-- name: cells_at
SELECT c.cell_id, v.kind, v.source, v.outputs, v.execution_count, v.metadata
FROM notebook_cells c JOIN cell_versions v USING (session_id, version)
WHERE c.session_id = $1 AND c.from_revision <= $2 AND (c.until_revision IS NULL OR c.until_revision > $2)
ORDER BY c.place;

-- name: last_cell
SELECT cell_id FROM notebook_cells WHERE session_id = $1 AND until_revision IS NULL ORDER BY place DESC LIMIT 1;

-- name: cell
SELECT c.cell_id, v.kind, v.source, v.outputs, v.execution_count, v.metadata
FROM notebook_cells c JOIN cell_versions v USING (session_id, version)
WHERE c.session_id = $1 AND c.cell_id = $2 AND c.until_revision IS NULL;

-- name: running_cells
SELECT r.cell_id FROM turns t JOIN cell_runs r ON r.turn_id = t.id
WHERE t.session_id = $1 AND t.status = 'running' AND r.ended_at IS NULL;

-- name: revision
SELECT revision FROM sessions WHERE id = $1;
