import { AppError, explainReason, isTerminal } from '@backend.ai/core';
import type { SessionRecord } from '../../repositories/session-rows.ts';

/** What is asked for needs a session that runs. Who waits for one that has ended waits for ever. */
export function notRunning({
  id,
  name,
  status,
  statusReason: reason,
}: Pick<SessionRecord, 'id' | 'name' | 'status' | 'statusReason'>): AppError {
  const isOver = isTerminal(status) || status === 'TERMINATING';
  return new AppError('session-not-running', `The session "${name}" is ${status}. ${explainReason(reason)}`, {
    ...(isOver
      ? {
          hint: `Create another one with: ./backend.ai session create. What it wrote: ./backend.ai session logs ${name}`,
        }
      : {}),
    data: { sessionId: id, status, reason },
  });
}
