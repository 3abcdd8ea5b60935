-- What a user or a project holds is asked with each placement under a limit.
CREATE INDEX sessions_live_user_id_idx ON sessions (user_id)
  WHERE status NOT IN ('TERMINATED', 'ERROR', 'CANCELLED');
CREATE INDEX sessions_live_project_id_idx ON sessions (project_id)
  WHERE status NOT IN ('TERMINATED', 'ERROR', 'CANCELLED');
