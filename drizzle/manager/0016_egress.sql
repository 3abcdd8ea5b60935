-- What the kernels of a resource group may call beyond their machine.
ALTER TABLE resource_groups ADD COLUMN egress jsonb DEFAULT '{"policy":"open"}' NOT NULL;
