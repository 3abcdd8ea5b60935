-- Kernels that are started ahead: how many of which image and size a resource group keeps, and those that there are.
CREATE TABLE warm_pools (
  id uuid PRIMARY KEY,
  name text NOT NULL,
  resource_group text NOT NULL REFERENCES resource_groups (name) ON DELETE CASCADE,
  image text NOT NULL,
  architecture text NOT NULL,
  slots jsonb NOT NULL,
  shmem bigint,
  size integer NOT NULL,
  failures integer DEFAULT 0 NOT NULL,
  retry_at timestamp with time zone,
  last_error jsonb,
  created_at timestamp with time zone DEFAULT now() NOT NULL,
  CONSTRAINT warm_pools_name_key UNIQUE (name),
  CONSTRAINT warm_pools_size_check CHECK (size >= 0)
);

-- Entries of the ledger that give way: a placement that needs the room removes them, one that takes a slot takes its row.
CREATE TABLE warm_slots (
  id uuid PRIMARY KEY,
  pool_id uuid NOT NULL REFERENCES warm_pools (id) ON DELETE CASCADE,
  agent_id text NOT NULL REFERENCES agents (id) ON DELETE CASCADE,
  slots jsonb NOT NULL,
  image_registry_id uuid REFERENCES container_registries (id) ON DELETE SET NULL,
  image_digest text,
  image_manifest_digest text,
  status text DEFAULT 'starting' NOT NULL,
  created_at timestamp with time zone DEFAULT now() NOT NULL,
  ready_at timestamp with time zone,
  CONSTRAINT warm_slots_status_check CHECK (status IN ('starting', 'ready'))
);
CREATE INDEX warm_slots_agent_id_idx ON warm_slots (agent_id);
CREATE INDEX warm_slots_pool_id_idx ON warm_slots (pool_id);

-- What an agent can do that not every agent can.
ALTER TABLE agents ADD COLUMN features jsonb DEFAULT '[]' NOT NULL;
