-- A start that goes back to the queue gives its kernel a new id: entries of the ledger follow.
ALTER TABLE resource_allocations
  DROP CONSTRAINT resource_allocations_kernel_id_fkey,
  ADD CONSTRAINT resource_allocations_kernel_id_fkey FOREIGN KEY (kernel_id) REFERENCES kernels (id)
    ON DELETE CASCADE ON UPDATE CASCADE;
