import { slotsFromTexts } from '@backend.ai/core';
import type { PendingSession } from '@backend.ai/scheduler';

export interface WaitingSession {
  readonly sessionId: string;
  readonly kernelId: string;
  readonly image: string;
  readonly architecture: string;
  readonly resourceGroup: string;
  readonly slots: Record<string, string>;
  readonly createdAt: string;
  readonly priority: number;
}

/** A waiting session of one kernel as the scheduler sees it. */
export function pendingOf(session: WaitingSession): PendingSession {
  const { sessionId, kernelId, image, architecture, resourceGroup, priority } = session;
  return {
    sessionId,
    resourceGroup,
    owner: { keypair: '', user: '', project: '', domain: '' },
    kernels: [{ kernelId, role: 'main', index: 1, slots: slotsFromTexts(session.slots), image, architecture }],
    createdAt: Date.parse(session.createdAt),
    priority,
  };
}
