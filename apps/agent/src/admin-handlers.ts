import type { AdminHandlers } from '@backend.ai/runtime';
import type { Agent } from './agent.ts';

/** What operators on the machine of an agent may ask of it; see `commands/`. */
export function agentHandlers(agent: () => Pick<Agent, 'status' | 'sweepStrays'>): AdminHandlers {
  return {
    status: () => agent().status(),
    // Removes only when that is what was said.
    sweep: ({ dryRun }) => agent().sweepStrays({ dryRun: dryRun !== false }),
  };
}
