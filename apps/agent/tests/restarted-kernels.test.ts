import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type AgentWorld, agentWorld, runCode, type StartedAgent, startKernel, textOf } from './agent-world.ts';
import { modes } from './modes.ts';

const shell = { image: 'local/shell' };
const read = 'cat notes 2>/dev/null || echo none; touch mine && echo writable';

async function end(w: AgentWorld, { api }: StartedAgent, kernelId: string, reason: string): Promise<void> {
  await api.destroyKernel.mutate({ kernelId, reason });
  await w.gateway.waitForEvent(kernelId, 'kernel-terminated');
  await w.expectNoRemains(kernelId);
}

describe.each(modes)(
  'the home of a kernel whose session is started anew, with $name',
  ({ name: _, isolated: _i, ...mode }) => {
    it('is that of the next kernel, also after a restart of the agent, and ends with a session that ends', async () => {
      const w = await agentWorld(mode);
      const first = await w.startAgent();
      const { kernelId, spec } = await startKernel(w, first.api, shell);
      await runCode(first.api, kernelId, 'echo kept > notes; mkdir -p a/b; echo deep > a/b/c');
      await end(w, first, kernelId, 'restart-requested');
      await first.agent.close();
      const second = await w.startAgent();
      const other = await startKernel(w, second.api, shell);
      expect(textOf(await runCode(second.api, other.kernelId, read))).toBe('none\nwritable\n');
      const { sessionId } = spec;
      const next = await startKernel(w, second.api, { ...shell, sessionId });
      expect(textOf(await runCode(second.api, next.kernelId, read))).toBe('kept\nwritable\n');
      expect(textOf(await runCode(second.api, next.kernelId, 'cat a/b/c; [ -O notes ] && echo own'))).toBe(
        'deep\nown\n',
      );
      await end(w, second, next.kernelId, 'user-requested');
      expect(readdirSync(join(w.dataDir, 'kept-homes'))).toEqual([]);
      const last = await startKernel(w, second.api, { ...shell, sessionId });
      expect(textOf(await runCode(second.api, last.kernelId, read))).toBe('none\nwritable\n');
    });
  },
);

it('each kernel of a session has a home of its own', async () => {
  const w = await agentWorld();
  const agent = await w.startAgent();
  const main = await startKernel(w, agent.api, shell);
  const { sessionId } = main.spec;
  const role = { clusterRole: 'sub', hostname: 'sub1' } as const;
  const sub = await startKernel(w, agent.api, { ...shell, ...role, sessionId });
  for (const [kernelId, text] of [
    [main.kernelId, 'main'],
    [sub.kernelId, 'sub'],
  ] as const) {
    await runCode(agent.api, kernelId, `echo ${text} > notes`);
    await end(w, agent, kernelId, 'restart-requested');
  }
  const next = await startKernel(w, agent.api, { ...shell, ...role, sessionId });
  expect(textOf(await runCode(agent.api, next.kernelId, read))).toBe('sub\nwritable\n');
});
