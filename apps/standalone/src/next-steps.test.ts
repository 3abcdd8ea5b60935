import { expect, it } from 'vitest';
import { nextSteps } from './next-steps.ts';

it('while the cluster stays, its session is what to try next', () => {
  const lines = nextSteps({ cluster: 'this-process', session: 'quickstart', prefix: '' });
  expect(lines[0]).toBe('Try next, in another terminal:');
  expect(lines[1]).toBe('  ./backend.ai session exec quickstart -- ls -l');
  expect(lines.join()).not.toContain('up --detach');
});

it('of a session that has ended nothing is said', () => {
  expect(nextSteps({ cluster: 'another-process', session: undefined, prefix: '' }).join()).not.toContain('quickstart');
});

it('a cluster that has ended is started first, where its data lie', () => {
  const lines = nextSteps({ cluster: 'ended', session: 'quickstart', prefix: 'BACKEND_DATA_DIR=/x ' });
  expect(lines.slice(0, 3)).toEqual([
    'Try next:',
    '  BACKEND_DATA_DIR=/x ./backend.ai up --detach',
    '  BACKEND_DATA_DIR=/x ./backend.ai session exec quickstart -- ls -l',
  ]);
  expect(lines.at(-1)).toBe('  BACKEND_DATA_DIR=/x ./backend.ai down');
});
