import type { Clock } from '@backend.ai/core';
import type { BackgroundTasks, Logger } from '@backend.ai/telemetry';
import type { AgentClients } from '../clients/agent-clients.ts';
import type { KernelRepository } from '../repositories/kernels.ts';
import type { SessionTransitions } from '../repositories/session-transitions.ts';
import type { SessionChanges } from '../services/sessions/session-changes.ts';

/** What a loop needs that gives orders to agents. Orders carry the epoch of the term in which they were decided. */
export interface OrderOptions {
  readonly transitions: SessionTransitions;
  readonly kernels: KernelRepository;
  readonly changes: SessionChanges;
  readonly clients: AgentClients;
  readonly tasks: BackgroundTasks;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Asks for another pass, under a request id of its own. */
  readonly again: () => void;
  /** Pause before an order without an answer is asked about. */
  readonly askAgainMs: number;
  /** An agent answers an order within this time, or its outcome is unknown. */
  readonly orderDeadlineMs: number;
}
