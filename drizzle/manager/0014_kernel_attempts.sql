-- What a kernel wrote and used in an attempt that was followed by another one.
CREATE TABLE kernel_attempts (
  kernel_id uuid PRIMARY KEY,
  session_id uuid NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
  cluster_role text NOT NULL,
  cluster_index integer NOT NULL,
  attempt integer NOT NULL,
  agent_id text NOT NULL,
  reason text NOT NULL,
  exit_code integer,
  log text,
  statistics jsonb,
  started_at timestamptz,
  ended_at timestamptz NOT NULL,
  CONSTRAINT kernel_attempts_attempt_key UNIQUE (session_id, cluster_role, cluster_index, attempt)
);
