import type { RunOutcome, Session } from '@backend.ai/client';
import { exitCodeOf, noticesOf } from './outcome.ts';

/** What `--json` tells about a run. */
export function runDocument(session: Session, outcome: RunOutcome, requestId: string): Record<string, unknown> {
  const { timings } = session.view;
  return {
    sessionId: session.id,
    sessionName: session.name,
    runId: outcome.runId,
    status: outcome.status,
    exitCode: exitCodeOf(outcome),
    stdout: outcome.stdout,
    stderr: outcome.stderr,
    notices: noticesOf(outcome, requestId),
    timings: { scheduledMs: timings.scheduledMs, runningMs: timings.runningMs, runMs: outcome.elapsedMs },
  };
}
