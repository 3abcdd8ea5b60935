import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { smallDiskForAll, waitFor } from '@backend.ai/testing';
import { describe, expect, it } from 'vitest';
import { agentWorld, codeOf, kernelSpec, runCode, startKernel, textOf } from './agent-world.ts';
import { dockerOptions, dockerRemains, testImages } from './docker-world.ts';

/** More than what is left of the last page of its journal. */
const job = 'while [ ! -e go ]; do sleep 0.05; done; head -c 20000 /dev/zero | tr "\\0" x; exit 4';

describe.skipIf(process.getuid?.() !== 0)('containers on a disk that is full', () => {
  it('have the ends of their jobs and runs told, and why; others start when there is room again', async () => {
    const { python: image } = await testImages();
    const disk = await smallDiskForAll('64m');
    const w = await agentWorld(dockerOptions);
    const { api } = await w.startAgent({ dataDir: disk.path });
    const batch = await startKernel(w, api, { image, batch: { startupCommand: job } });
    const plain = await startKernel(w, api, { image });
    await runCode(api, plain.kernelId, 'print("before")');

    disk.fill();
    writeFileSync(join(disk.path, 'scratch', batch.kernelId, 'home', 'go'), '');
    const finished = await w.gateway.waitForEvent(batch.kernelId, 'batch-finished');
    expect(finished).toMatchObject({ exitCode: 4, reason: 'task-failed', diskFull: true });
    const { exitCode, notices } = await runCode(api, plain.kernelId, { code: 'print("x" * 20000)', timeoutMs: 60_000 });
    expect([exitCode, notices]).toMatchObject([0, [{ code: 'disk-full' }]]);
    const fails = await runCode(api, plain.kernelId, 'open("more", "w").write("x" * 20000)');
    expect([fails.exitCode, fails.notices]).toMatchObject([1, [{ code: 'disk-full' }]]);
    expect(await codeOf(api.createKernel.mutate(kernelSpec({ image })))).toBe('disk-full');
    for (const { kernelId } of [batch, plain]) {
      await api.destroyKernel.mutate({ kernelId, reason: 'user-requested', forced: true });
      await w.gateway.waitForEvent(kernelId, 'kernel-terminated');
    }

    disk.free();
    const next = await startKernel(w, api, { image });
    expect(textOf(await runCode(api, next.kernelId, 'print(1)'))).toBe('1\n');
    await api.destroyKernel.mutate({ kernelId: next.kernelId, reason: 'user-requested', forced: true });
    await waitFor(async () => (await dockerRemains(null, disk.path)).length === 0);
  });
});
