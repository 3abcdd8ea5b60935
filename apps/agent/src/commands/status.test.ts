import { expect, it } from 'vitest';
import { registrationText } from './status.ts';

const nothing = { manager: null, since: null, lastHeartbeat: null, lastError: null };

it('tells at which manager an agent is registered, and when that last heard from it', () => {
  const link = {
    ...{ state: 'registered' as const, manager: 'ws://127.0.0.1:8092', since: '2026-01-02T03:04:05.000Z' },
    ...{ lastHeartbeat: '2026-01-02T03:05:00.000Z', lastError: null },
  };
  expect(registrationText(link)).toBe(
    'registered at ws://127.0.0.1:8092 since 2026-01-02T03:04:05.000Z, last heartbeat 2026-01-02T03:05:00.000Z',
  );
  expect(registrationText({ ...link, lastHeartbeat: null })).toContain('last heartbeat not yet');
});

it('tells why an agent is not registered', () => {
  expect(registrationText({ ...nothing, state: 'connecting' })).toBe('connecting');
  expect(registrationText({ ...nothing, state: 'connecting', lastError: 'connect ECONNREFUSED' })).toBe(
    'connecting: connect ECONNREFUSED',
  );
});
