-- The swarm that the engine of an agent belongs to.
ALTER TABLE agents ADD COLUMN swarm jsonb;

-- Networks of sessions over several machines, from before they are made until they are known to be gone.
CREATE TABLE cluster_networks (
  session_id uuid NOT NULL,
  swarm_id text NOT NULL,
  CONSTRAINT cluster_networks_pkey PRIMARY KEY (session_id, swarm_id)
);
