import { AppError } from '@backend.ai/core';
import { collectLogs } from '@backend.ai/testing';
import { expect, it } from 'vitest';
import type { Firewall } from './firewall.ts';
import { guardMachine } from './guard-machine.ts';

const firewall: Firewall = { ensure: async () => {}, add: async () => {}, release: async () => {} };
const { logger } = collectLogs('agent');
const guard = (areMadeHere: () => Promise<boolean>, given: Firewall | null = firewall) =>
  guardMachine(given, { areMadeHere, allowUnguarded: true, logger });

it('a machine may be left unguarded where nothing can guard it, and not because the engine did not answer', async () => {
  expect(await guard(async () => true)).toBe(firewall);
  expect(await guard(async () => true, null)).toBeNull();
  expect(await guard(async () => false)).toBeNull();
  const away = new AppError('engine-unavailable', 'The engine does not answer.');
  await expect(guard(() => Promise.reject(away))).rejects.toBe(away);
});
