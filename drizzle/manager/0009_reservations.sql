-- A session for which others have to leave holds its place: announced amounts stand beside what is in use.
ALTER TABLE agent_resources
  ADD COLUMN prereserved numeric(24, 6) NOT NULL DEFAULT 0,
  ADD CONSTRAINT agent_resources_prereserved_check CHECK (prereserved >= 0);
ALTER TABLE resource_allocations
  ADD COLUMN prereserved boolean NOT NULL DEFAULT false;
