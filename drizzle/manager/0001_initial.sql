-- Identity

CREATE TABLE domains (
  name text PRIMARY KEY,
  is_active boolean NOT NULL DEFAULT true,
  created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE projects (
  id uuid PRIMARY KEY,
  domain_name text NOT NULL REFERENCES domains (name),
  name text NOT NULL,
  is_active boolean NOT NULL DEFAULT true,
  created_at timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT projects_domain_name_name_key UNIQUE (domain_name, name)
);

CREATE TABLE users (
  id uuid PRIMARY KEY,
  email text NOT NULL CONSTRAINT users_email_key UNIQUE,
  username text NOT NULL,
  full_name text NOT NULL DEFAULT '',
  password_hash text,
  role text NOT NULL DEFAULT 'user'
    CONSTRAINT users_role_check CHECK (role IN ('superadmin', 'admin', 'user')),
  status text NOT NULL DEFAULT 'active'
    CONSTRAINT users_status_check CHECK (status IN ('active', 'inactive')),
  domain_name text NOT NULL REFERENCES domains (name),
  created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE project_members (
  project_id uuid NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
  user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  CONSTRAINT project_members_pkey PRIMARY KEY (project_id, user_id)
);

CREATE TABLE keypairs (
  access_key text PRIMARY KEY,
  user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  secret_key_encrypted text NOT NULL,
  is_active boolean NOT NULL DEFAULT true,
  is_admin boolean NOT NULL DEFAULT false,
  rate_limit integer NOT NULL DEFAULT 30000,
  created_at timestamptz NOT NULL DEFAULT now()
);

-- Sessions

CREATE TABLE sessions (
  id uuid PRIMARY KEY,
  name text NOT NULL,
  domain_name text NOT NULL,
  project_id uuid NOT NULL,
  user_id uuid NOT NULL,
  access_key text NOT NULL,
  type text NOT NULL DEFAULT 'interactive'
    CONSTRAINT sessions_type_check CHECK (type IN ('interactive', 'batch', 'inference')),
  image text NOT NULL,
  architecture text NOT NULL,
  tag text,
  cluster_mode text NOT NULL DEFAULT 'single-node'
    CONSTRAINT sessions_cluster_mode_check CHECK (cluster_mode IN ('single-node', 'multi-node')),
  cluster_size integer NOT NULL DEFAULT 1,
  resource_group text NOT NULL,
  status text NOT NULL DEFAULT 'PENDING'
    CONSTRAINT sessions_status_check CHECK (status IN (
      'PENDING', 'SCHEDULED', 'PREPARING', 'PULLING', 'PREPARED', 'CREATING',
      'RUNNING', 'TERMINATING', 'TERMINATED', 'ERROR', 'CANCELLED'
    )),
  status_reason text NOT NULL,
  status_data jsonb NOT NULL DEFAULT '{}',
  result text NOT NULL DEFAULT 'undefined'
    CONSTRAINT sessions_result_check CHECK (result IN ('undefined', 'success', 'failure')),
  requested_slots jsonb NOT NULL,
  environ jsonb NOT NULL DEFAULT '{}',
  options jsonb NOT NULL DEFAULT '{}',
  priority integer NOT NULL DEFAULT 10,
  created_at timestamptz NOT NULL DEFAULT now(),
  status_changed_at timestamptz NOT NULL DEFAULT now(),
  scheduled_at timestamptz,
  started_at timestamptz,
  terminated_at timestamptz,
  request_id text NOT NULL,
  version integer NOT NULL DEFAULT 1
);

-- A name is free again when its session has ended.
CREATE UNIQUE INDEX sessions_live_name_key ON sessions (access_key, name)
  WHERE status NOT IN ('TERMINATED', 'ERROR', 'CANCELLED');
CREATE INDEX sessions_queue_idx ON sessions (status, priority DESC, created_at, id);
CREATE INDEX sessions_access_key_created_at_idx ON sessions (access_key, created_at DESC);

CREATE TABLE kernels (
  id uuid PRIMARY KEY,
  session_id uuid NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
  agent_id text,
  cluster_role text NOT NULL DEFAULT 'main'
    CONSTRAINT kernels_cluster_role_check CHECK (cluster_role IN ('main', 'sub')),
  cluster_index integer NOT NULL DEFAULT 1,
  hostname text NOT NULL DEFAULT 'main1',
  image text NOT NULL,
  status text NOT NULL DEFAULT 'PENDING'
    CONSTRAINT kernels_status_check CHECK (status IN (
      'PENDING', 'SCHEDULED', 'PREPARING', 'PULLING', 'PREPARED', 'CREATING',
      'RUNNING', 'TERMINATING', 'TERMINATED', 'ERROR', 'CANCELLED'
    )),
  status_reason text NOT NULL,
  status_data jsonb NOT NULL DEFAULT '{}',
  requested_slots jsonb NOT NULL,
  exit_code integer,
  created_at timestamptz NOT NULL DEFAULT now(),
  status_changed_at timestamptz NOT NULL DEFAULT now(),
  started_at timestamptz,
  terminated_at timestamptz,
  last_seen_at timestamptz,
  request_id text NOT NULL,
  version integer NOT NULL DEFAULT 1
);

CREATE INDEX kernels_session_id_idx ON kernels (session_id);
CREATE INDEX kernels_agent_id_status_idx ON kernels (agent_id, status);

CREATE TABLE session_history (
  id uuid PRIMARY KEY,
  session_id uuid NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
  kernel_id uuid,
  from_status text,
  to_status text NOT NULL
    CONSTRAINT session_history_to_status_check CHECK (to_status IN (
      'PENDING', 'SCHEDULED', 'PREPARING', 'PULLING', 'PREPARED', 'CREATING',
      'RUNNING', 'TERMINATING', 'TERMINATED', 'ERROR', 'CANCELLED'
    )),
  reason text NOT NULL,
  data jsonb NOT NULL DEFAULT '{}',
  request_id text NOT NULL,
  at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX session_history_session_id_at_idx ON session_history (session_id, at);
CREATE INDEX session_history_request_id_idx ON session_history (request_id);

-- Agents and the resource ledger

CREATE TABLE resource_groups (
  name text PRIMARY KEY,
  is_active boolean NOT NULL DEFAULT true,
  created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE agents (
  id text PRIMARY KEY,
  resource_group text NOT NULL REFERENCES resource_groups (name),
  status text NOT NULL DEFAULT 'ALIVE'
    CONSTRAINT agents_status_check CHECK (status IN ('ALIVE', 'LOST', 'TERMINATED')),
  address text,
  data_address text,
  rpc_version integer NOT NULL,
  version text NOT NULL,
  architecture text NOT NULL,
  backend text NOT NULL,
  isolation jsonb NOT NULL DEFAULT '{}',
  images jsonb NOT NULL DEFAULT '[]',
  schedulable boolean NOT NULL DEFAULT true,
  first_contact timestamptz NOT NULL DEFAULT now(),
  last_heartbeat timestamptz NOT NULL DEFAULT now(),
  lost_at timestamptz,
  last_event_seq bigint NOT NULL DEFAULT 0,
  boot_id text
);

CREATE INDEX agents_resource_group_status_idx ON agents (resource_group, status);

CREATE TABLE agent_resources (
  agent_id text NOT NULL REFERENCES agents (id) ON DELETE CASCADE,
  slot_name text NOT NULL,
  capacity numeric(24, 6) NOT NULL,
  used numeric(24, 6) NOT NULL DEFAULT 0
    CONSTRAINT agent_resources_used_check CHECK (used >= 0),
  CONSTRAINT agent_resources_pkey PRIMARY KEY (agent_id, slot_name)
);

CREATE TABLE resource_allocations (
  kernel_id uuid NOT NULL REFERENCES kernels (id) ON DELETE CASCADE,
  slot_name text NOT NULL,
  agent_id text NOT NULL,
  amount numeric(24, 6) NOT NULL
    CONSTRAINT resource_allocations_amount_check CHECK (amount > 0),
  allocated_at timestamptz NOT NULL DEFAULT now(),
  free_at timestamptz,
  request_id text NOT NULL,
  CONSTRAINT resource_allocations_pkey PRIMARY KEY (kernel_id, slot_name)
);

CREATE INDEX resource_allocations_open_idx ON resource_allocations (agent_id) WHERE free_at IS NULL;

-- Peers

CREATE TABLE peers (
  id text PRIMARY KEY,
  kind text NOT NULL
    CONSTRAINT peers_kind_check CHECK (kind IN ('agent', 'storage-proxy', 'coordinator', 'worker', 'manager')),
  name text NOT NULL,
  public_key text NOT NULL,
  resource_group text,
  created_at timestamptz NOT NULL DEFAULT now(),
  revoked_at timestamptz,
  last_seen_at timestamptz,
  request_id text NOT NULL
);

CREATE TABLE peer_tokens (
  id uuid PRIMARY KEY,
  token_hash text NOT NULL CONSTRAINT peer_tokens_token_hash_key UNIQUE,
  kind text NOT NULL
    CONSTRAINT peer_tokens_kind_check CHECK (kind IN ('agent', 'storage-proxy', 'coordinator', 'worker', 'manager')),
  resource_group text,
  expires_at timestamptz NOT NULL,
  used_at timestamptz,
  created_at timestamptz NOT NULL DEFAULT now()
);

-- Coordination

CREATE SEQUENCE config_revisions;

CREATE TABLE config_entries (
  key text PRIMARY KEY,
  value text NOT NULL,
  revision bigint NOT NULL
);

CREATE TABLE leases (
  name text PRIMARY KEY,
  holder text NOT NULL,
  epoch bigint NOT NULL,
  expires_at timestamptz NOT NULL
);

CREATE TABLE installation (
  key text PRIMARY KEY,
  value text NOT NULL
);
