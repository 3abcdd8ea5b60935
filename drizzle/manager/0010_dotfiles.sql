-- What sessions of a key pair find in their home folder, and what runs in them first.
CREATE TABLE dotfiles (
  access_key text NOT NULL REFERENCES keypairs (access_key) ON DELETE CASCADE,
  path text NOT NULL,
  permission text NOT NULL,
  content text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  modified_at timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT dotfiles_pkey PRIMARY KEY (access_key, path)
);

CREATE TABLE bootstrap_scripts (
  access_key text NOT NULL REFERENCES keypairs (access_key) ON DELETE CASCADE,
  script text NOT NULL,
  modified_at timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT bootstrap_scripts_pkey PRIMARY KEY (access_key)
);
