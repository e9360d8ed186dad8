-- name: workspace
SELECT files, left_out FROM workspace_versions WHERE session_id = $1 AND version = $2;

-- name: file_names
SELECT DISTINCT name FROM artifacts WHERE session_id = $1 AND created_by IN ('upload', 'file');
