import { newId } from '@backend.ai/core';
import { expect, it } from 'vitest';
import { type AgentService, createAgentRouter } from './agent-router.ts';

it('refuses what an order about the network of a session is not known to have', () => {
  const { _def } = createAgentRouter({} as AgentService).removeClusterNetwork;
  const [input] = (_def as unknown as { inputs: Array<{ safeParse(value: unknown): { success: boolean } }> }).inputs;
  const sessionId = newId();
  expect(input?.safeParse({ sessionId }).success).toBe(true);
  expect(input?.safeParse({ sessionId, kernelId: sessionId }).success).toBe(false);
});
