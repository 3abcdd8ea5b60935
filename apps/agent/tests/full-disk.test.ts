import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { smallDisk, smallDiskMissing, waitFor } from '@backend.ai/testing';
import { describe, expect, it } from 'vitest';
import { foreignAgents } from './agent-in-process.ts';
import { codeOf, kernelSpec, runCode, textOf } from './agent-world.ts';

/** Without root there is nobody to give its kernels' files to. */
const missing = smallDiskMissing ?? (process.getuid?.() === 0 ? null : 'the agent has to be root');
/** More than what is left of the last page of its journal. */
const job = 'while [ ! -e go ]; do sleep 0.05; done; head -c 20000 /dev/zero | tr "\\0" x; exit 4';

describe.skipIf(missing)(`an agent whose disk is full${missing ? ` (skipped: ${missing})` : ''}`, () => {
  it('tells the ends of jobs, runs and kernels and why, and starts others when there is room again', async () => {
    const disk = await smallDisk('64m');
    const { gateway, start } = await foreignAgents(join(disk.inside, 'agent'), {}, [...disk.enter]);
    const { api } = await start();
    const batch = kernelSpec({ batch: { startupCommand: job } });
    const plain = kernelSpec();
    for (const spec of [batch, plain]) await api.createKernel.mutate(spec);
    for (const { kernelId } of [batch, plain]) await gateway.waitForEvent(kernelId, 'kernel-started');

    disk.fill();
    writeFileSync(join(disk.path, 'agent', 'scratch', batch.kernelId, 'home', 'go'), '');
    const finished = await gateway.waitForEvent(batch.kernelId, 'batch-finished');
    expect(finished).toMatchObject({ exitCode: 4, reason: 'task-failed', diskFull: true });
    const code = { code: 'print("x" * 20000)', timeoutMs: 60_000 };
    const { exitCode, notices } = await runCode(api, plain.kernelId, code);
    expect([exitCode, notices]).toMatchObject([0, [{ code: 'disk-full' }]]);
    const fails = await runCode(api, plain.kernelId, 'open("more", "w").write("x" * 20000)');
    expect([fails.exitCode, fails.notices]).toMatchObject([1, [{ code: 'disk-full' }]]);
    expect(await codeOf(api.createKernel.mutate(kernelSpec()))).toBe('disk-full');
    for (const { kernelId } of [batch, plain]) {
      await api.destroyKernel.mutate({ kernelId, reason: 'user-requested', forced: true });
      await gateway.waitForEvent(kernelId, 'kernel-terminated');
    }

    disk.free();
    const next = kernelSpec({ slots: { cpu: '8', mem: String(256 * 1024 ** 2) } });
    await api.createKernel.mutate(next);
    await gateway.waitForEvent(next.kernelId, 'kernel-started');
    expect(textOf(await runCode(api, next.kernelId, 'print(1)'))).toBe('1\n');
    const written = (): string => readFileSync(join(disk.path, 'agent', 'outbox.jsonl'), 'utf8');
    await waitFor(() => written().trimEnd().endsWith(`{"acked":${gateway.ackedSeq}}`), {
      what: 'all events written',
    });
    for (const line of written().trimEnd().split('\n')) expect(() => JSON.parse(line)).not.toThrow();
  });
});
