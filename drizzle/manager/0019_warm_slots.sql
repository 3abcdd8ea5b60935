-- Slots know the rules of their group under which they were made, and failures belong to agents.
ALTER TABLE warm_slots ADD COLUMN egress jsonb DEFAULT '{"policy": "open"}' NOT NULL;
ALTER TABLE warm_slots ADD COLUMN may_scatter boolean DEFAULT true NOT NULL;

CREATE TABLE warm_pool_failures (
  pool_id uuid NOT NULL REFERENCES warm_pools (id) ON DELETE CASCADE,
  agent_id text NOT NULL REFERENCES agents (id) ON DELETE CASCADE,
  failures integer NOT NULL,
  retry_at timestamp with time zone NOT NULL,
  error jsonb,
  failed_at timestamp with time zone DEFAULT now() NOT NULL,
  CONSTRAINT warm_pool_failures_pkey PRIMARY KEY (pool_id, agent_id)
);
CREATE INDEX warm_pool_failures_agent_id_idx ON warm_pool_failures (agent_id);
ALTER TABLE warm_pools DROP COLUMN failures, DROP COLUMN retry_at, DROP COLUMN last_error;
