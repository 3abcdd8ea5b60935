import { isTerminal, type SessionStatus } from '@backend.ai/core';
import { currentRequestId } from '@backend.ai/telemetry';
import type { AgentClients } from './clients/agent-clients.ts';
import type { DutyName } from './reconcilers/leader-duties.ts';
import type { Leader } from './scheduling/leader.ts';
import type { SchedulingMemory } from './scheduling/scheduling-memory.ts';
import type { AgentDirectory } from './services/agents/agent-directory.ts';
import type { SessionActivity } from './services/idle/session-activity.ts';
import type { ImageCatalog } from './services/images/image-catalog.ts';
import type { RunningKernels } from './services/kernels/running-kernels.ts';
import type { SessionChanges } from './services/sessions/session-changes.ts';

export interface HintParts {
  readonly leader: Leader<DutyName>;
  readonly memory: SchedulingMemory;
  readonly changes: SessionChanges;
  readonly directory: AgentDirectory;
  readonly catalog: ImageCatalog;
  readonly clients: AgentClients;
  readonly running: RunningKernels;
  readonly activity: SessionActivity;
}

/** First its kernels end, then it goes back to the queue. */
const startsAnew: readonly SessionStatus[] = ['RESTARTING', 'RESCHEDULING'];

/** What one change makes worth looking at, and what it makes out of date. Ticks find the rest. */
export function followChanges(parts: HintParts): void {
  const { leader, memory, changes, directory, catalog, clients, running, activity } = parts;
  changes.onChange((change) => {
    memory.sessionChanged(change);
    running.forget(change.sessionId);
    const { from, to } = change;
    const cause = currentRequestId();
    if (to === 'PENDING' && from !== to) leader.hint('schedule', cause);
    else if (to === 'TERMINATING') leader.hint('terminate', cause);
    else if (to === 'PREEMPTED' || to === 'DEPRIORITIZING') leader.hint('advance', cause);
    else if (startsAnew.includes(to)) leader.hint(from === to ? 'advance' : 'terminate', cause);
    else if (isTerminal(to)) {
      activity.forget(change.sessionId);
      leader.hint('schedule', cause);
    }
    // Nobody is cancelled for a job that did what it was to do.
    if (isTerminal(to) && change.reason !== 'task-finished') leader.hint('dependents', cause);
  });
  catalog.onChange(() => {
    memory.imagesChanged();
    leader.hint('schedule', currentRequestId());
  });
  directory.onChange((agentId) => {
    clients.refresh(agentId);
    memory.agentsChanged();
    leader.hint('schedule', currentRequestId());
    leader.hint('pools', currentRequestId());
  });
}
