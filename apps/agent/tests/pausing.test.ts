import { describe, expect, it } from 'vitest';
import { readCgroupView } from '../src/resources/cgroups.ts';
import { agentWorld, startKernel } from './agent-world.ts';
import { modes } from './modes.ts';
import { pauseSuite } from './pause-suite.ts';

const { v1, v2 } = readCgroupView();
const freezes = process.getuid?.() === 0 && (v1.freezer !== undefined || v2 !== null);

for (const { name, isolated: _, ...options } of modes.filter(({ useCgroups }) => useCgroups !== false)) {
  describe.skipIf(!freezes)(`a kernel of processes that is paused, with ${name}`, () => pauseSuite(options, {}));
}

describe('a kernel that no control group holds', () => {
  it('is not paused, and runs on', async () => {
    const w = await agentWorld({ useCgroups: false });
    const { api } = await w.startAgent();
    const { kernelId } = await startKernel(w, api);
    await expect(api.pauseKernel.mutate({ kernelId })).rejects.toMatchObject({ code: 'unsupported-feature' });
    expect((await api.checkKernel.query({ kernelId })).paused).toBeUndefined();
    await api.resumeKernel.mutate({ kernelId });
  });
});
