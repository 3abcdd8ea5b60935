import { expect, it } from 'vitest';
import type { SessionTransitions, TransitionOptions } from '../repositories/session-transitions.ts';
import type { SessionRepository } from '../repositories/sessions.ts';
import type { SessionChanges } from '../services/sessions/session-changes.ts';
import { EndDependents } from './end-dependents.ts';

it('one dependent that cannot be cancelled does not keep the others from it, and is told of', async () => {
  const cancelled: unknown[] = [];
  const transitions = {
    async apply({ target }: TransitionOptions) {
      if (target.sessionId === 'cursed') throw new Error('not this one');
      cancelled.push(target.sessionId);
      return [];
    },
  } as unknown as SessionTransitions;
  const waiting = ['cursed', 'first', 'second'].map((sessionId) => ({ sessionId, failed: ['job'] }));
  const sessions = { failedDependents: async () => waiting } as unknown as SessionRepository;
  const changes = { announce() {} } as unknown as SessionChanges;
  const dependents = new EndDependents(sessions, transitions, changes);
  await expect(dependents.run(1)).rejects.toThrow('not this one');
  expect(cancelled).toEqual(['first', 'second']);
});
