-- Sessions of several kernels, and the states of a session that waits for others to leave, starts anew, or lost a kernel.
ALTER TABLE sessions
  DROP CONSTRAINT sessions_status_check,
  ADD CONSTRAINT sessions_status_check CHECK (status IN (
    'PENDING', 'DEPRIORITIZING', 'RESERVED', 'SCHEDULED', 'PREPARING', 'PULLING', 'PREPARED', 'CREATING',
    'RUNNING', 'RUNNING_DEGRADED', 'RESTARTING', 'PREEMPTED', 'RESCHEDULING',
    'TERMINATING', 'TERMINATED', 'ERROR', 'CANCELLED'
  )),
  ADD COLUMN failure_policy text NOT NULL DEFAULT 'strict'
    CONSTRAINT sessions_failure_policy_check CHECK (failure_policy IN ('strict', 'tolerant'));

ALTER TABLE kernels
  DROP CONSTRAINT kernels_status_check,
  ADD CONSTRAINT kernels_status_check CHECK (status IN (
    'PENDING', 'RESERVED', 'SCHEDULED', 'PREPARING', 'PULLING', 'PREPARED', 'CREATING',
    'RUNNING', 'TERMINATING', 'TERMINATED', 'ERROR', 'CANCELLED'
  ));

ALTER TABLE session_history
  DROP CONSTRAINT session_history_to_status_check,
  ADD CONSTRAINT session_history_to_status_check CHECK (to_status IN (
    'PENDING', 'DEPRIORITIZING', 'RESERVED', 'SCHEDULED', 'PREPARING', 'PULLING', 'PREPARED', 'CREATING',
    'RUNNING', 'RUNNING_DEGRADED', 'RESTARTING', 'PREEMPTED', 'RESCHEDULING',
    'TERMINATING', 'TERMINATED', 'ERROR', 'CANCELLED'
  ));
