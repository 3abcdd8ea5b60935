import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { waitFor } from '@backend.ai/testing';
import { describe, expect, it } from 'vitest';
import { agentWorld, runCode, startKernel, textOf } from './agent-world.ts';
import { modes } from './modes.ts';

/**
 * What has gone wrong in agents of the original, each as a test of ours, as far as no other test shows it already:
 * docs/dev/failures-of-the-original.md lists them all by number.
 */

const { name: _name, isolated: _isolated, ...mode } = modes[0]!;

describe('16: what an agent keeps of one kernel for its next start', () => {
  it.each([
    ['is gone', (file: string) => rmSync(file)],
    ['is cut short', (file: string) => writeFileSync(file, '{"version":1,"spec":{')],
  ])('costs that kernel and no other when it %s', async (_what, damage) => {
    const w = await agentWorld(mode);
    const first = await w.startAgent();
    const kept = await startKernel(w, first.api);
    const lost = await startKernel(w, first.api);
    await runCode(first.api, kept.kernelId, 'x = 42');
    await first.agent.close();
    damage(join(w.dataDir, 'scratch', lost.kernelId, 'kernel.json'));
    const second = await w.startAgent();
    expect(second.agent.status().kernels.map(({ kernelId }) => kernelId)).toEqual([kept.kernelId]);
    expect(textOf(await runCode(second.api, kept.kernelId, 'print(x)'))).toBe('42\n');
    await w.expectNoRemains(lost.kernelId);
  });
});

describe('17: an agent that starts again', () => {
  it('measures the kernels that it took over', async () => {
    const w = await agentWorld({ ...mode, measureEveryMs: 100 });
    const first = await w.startAgent();
    const { kernelId } = await startKernel(w, first.api);
    await first.agent.close();
    w.gateway.heartbeats.length = 0;
    await w.startAgent();
    await waitFor(
      () => w.gateway.heartbeats.some(({ measurements = [] }) => measurements.some((one) => one.kernelId === kernelId)),
      { what: 'a measurement of it' },
    );
  });
});
