-- By these the kernels of a session trust one another. A row lives as long as its session is alive.
CREATE TABLE session_key_pairs (
  session_id uuid NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
  public_key text NOT NULL,
  private_key_encrypted text NOT NULL,
  CONSTRAINT session_key_pairs_pkey PRIMARY KEY (session_id)
);
