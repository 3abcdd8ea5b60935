import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { waitFor } from '@backend.ai/testing';
import { describe, expect, it } from 'vitest';
import { type AgentWorld, agentWorld, runCode, startKernel, textOf } from './agent-world.ts';
import { modes } from './modes.ts';

/** A job that says how often it was begun, and goes on when the test lets it. */
const patient = 'echo begun >> begun; while [ ! -e go ]; do sleep 0.05; done; echo done; exit 4';
const failed = { result: 'failure', exitCode: 4, reason: 'task-failed' };

describe('a batch job', () => {
  it.each(['local/python:3.11', 'local/node:20', 'local/shell'])('is a shell command in %s', async (image) => {
    const w = await agentWorld();
    const { agent, api } = await w.startAgent();
    const offered = agent.status().images.find(({ name }) => name.startsWith(image.split(':')[0] as string));
    const startupCommand = 'echo "$0 $_BACKEND_BATCH_MODE"; cd /; exit 5';
    const { kernelId } = await startKernel(w, api, { image: offered?.name ?? image, batch: { startupCommand } });
    expect(await w.gateway.waitForEvent(kernelId, 'batch-finished')).toMatchObject({ exitCode: 5 });
    expect((await api.logs.query({ kernelId })).logs).toContain('/bin/sh 1\n');
    expect(textOf(await runCode(api, kernelId, { mode: 'continue', runId: 'batch-job', cursor: 0 }))).toBe(
      '/bin/sh 1\n',
    );
  });

  it('has no time limit unless it is given one', async () => {
    const w = await agentWorld();
    const { api } = await w.startAgent();
    const { kernelId } = await startKernel(w, api, { batch: { startupCommand: patient } });
    await begun(w, kernelId);
    expect(existsSync(file(w, kernelId, 'batch.json'))).toBe(true);
    expect(JSON.parse(readFileSync(file(w, kernelId, 'batch.json'), 'utf8'))).toEqual({ deadline: null });
    letGo(w, kernelId);
    expect(await w.gateway.waitForEvent(kernelId, 'batch-finished')).toMatchObject(failed);
  });

  it('may have a limit that no timer of the system can wait for', async () => {
    const w = await agentWorld();
    const { api } = await w.startAgent();
    const batch = { startupCommand: patient, timeoutMs: 365 * 24 * 3_600_000 };
    const { kernelId } = await startKernel(w, api, { batch });
    await begun(w, kernelId);
    letGo(w, kernelId);
    expect(await w.gateway.waitForEvent(kernelId, 'batch-finished')).toMatchObject(failed);
  });

  it('has failed when the record of its end is destroyed', async () => {
    const w = await agentWorld();
    const { api } = await w.startAgent();
    const { kernelId } = await startKernel(w, api, {
      batch: { startupCommand: 'rm -r $BACKENDAI_SERVICE_DIR/runs; sleep 60' },
    });
    expect(await w.gateway.waitForEvent(kernelId, 'batch-finished')).toMatchObject({
      result: 'failure',
      exitCode: null,
      reason: 'task-failed',
    });
  });
});

describe('a batch job that begins on an order', () => {
  it('waits for it, also over a restart of the agent, and is begun once', async () => {
    const w = await agentWorld();
    const first = await w.startAgent();
    const batch = { startupCommand: patient, onOrder: true } as const;
    const { kernelId } = await startKernel(w, first.api, { batch });
    expect(await first.api.checkKernel.query({ kernelId })).toMatchObject({ batchWaits: true });
    await first.agent.close();
    const { api } = await w.startAgent();
    expect(await api.checkKernel.query({ kernelId })).toMatchObject({ batchWaits: true });
    expect(existsSync(file(w, kernelId, 'home/begun'))).toBe(false);
    await Promise.all([api.beginBatch.mutate({ kernelId }), api.beginBatch.mutate({ kernelId })]);
    expect((await api.checkKernel.query({ kernelId })).batchWaits).toBeUndefined();
    await begun(w, kernelId);
    await api.beginBatch.mutate({ kernelId });
    letGo(w, kernelId);
    expect(await w.gateway.waitForEvent(kernelId, 'batch-finished')).toMatchObject(failed);
    expect(readFileSync(file(w, kernelId, 'home/begun'), 'utf8')).toBe('begun\n');
  });

  it('goes on when the agent comes back after it was begun', async () => {
    const w = await agentWorld();
    const first = await w.startAgent();
    const { kernelId } = await startKernel(w, first.api, { batch: { startupCommand: patient, onOrder: true } });
    await first.api.beginBatch.mutate({ kernelId });
    await begun(w, kernelId);
    await first.agent.close();
    const { api } = await w.startAgent();
    expect((await api.checkKernel.query({ kernelId })).batchWaits).toBeUndefined();
    letGo(w, kernelId);
    expect(await w.gateway.waitForEvent(kernelId, 'batch-finished')).toMatchObject(failed);
  });
});

describe.each(modes)('a batch job and an agent that comes back, with $name', ({ name: _, isolated: _i, ...mode }) => {
  it('goes on without the agent, is begun once, and is told of when it ends', async () => {
    const w = await agentWorld(mode);
    const first = await w.startAgent();
    const { kernelId } = await startKernel(w, first.api, { batch: { startupCommand: patient } });
    await begun(w, kernelId);
    await first.agent.close();
    await w.startAgent();
    letGo(w, kernelId);
    expect(await w.gateway.waitForEvent(kernelId, 'batch-finished')).toMatchObject(failed);
    expect(readFileSync(file(w, kernelId, 'home/begun'), 'utf8')).toBe('begun\n');
  });

  it('is told of when it ended meanwhile', async () => {
    const w = await agentWorld(mode);
    const first = await w.startAgent();
    const { kernelId } = await startKernel(w, first.api, { batch: { startupCommand: patient } });
    await begun(w, kernelId);
    await first.agent.close();
    letGo(w, kernelId);
    await ended(w, kernelId);
    await w.startAgent();
    expect(await w.gateway.waitForEvent(kernelId, 'batch-finished')).toMatchObject(failed);
  });

  it('is told of before the end of its kernel when both ended meanwhile', async () => {
    const w = await agentWorld(mode);
    const first = await w.startAgent();
    const { kernelId } = await startKernel(w, first.api, { batch: { startupCommand: patient } });
    await begun(w, kernelId);
    await first.agent.close();
    letGo(w, kernelId);
    await ended(w, kernelId);
    const facts = JSON.parse(readFileSync(file(w, kernelId, 'kernel.json'), 'utf8'));
    process.kill((facts.init ?? facts.monitor).pid, 'SIGKILL');
    if (!facts.init) process.kill(-facts.monitor.pid, 'SIGKILL');
    await w.startAgent();
    await w.gateway.waitForEvent(kernelId, 'kernel-terminated');
    const types = w.gateway.of(kernelId).map(({ type }) => type);
    expect(types.slice(-2)).toEqual(['batch-finished', 'kernel-terminated']);
  });

  it('is ended at its limit by whichever agent is there', async () => {
    const w = await agentWorld(mode);
    const first = await w.startAgent();
    // Long enough to begin.
    const batch = { startupCommand: patient, timeoutMs: 5_000 };
    const { kernelId } = await startKernel(w, first.api, { batch });
    await begun(w, kernelId);
    await first.agent.close();
    await w.startAgent();
    expect(await w.gateway.waitForEvent(kernelId, 'batch-finished')).toMatchObject({
      exitCode: -2,
      reason: 'task-timeout',
    });
  });
});

function file(w: AgentWorld, kernelId: string, name: string): string {
  return join(w.dataDir, 'scratch', kernelId, name);
}

function letGo(w: AgentWorld, kernelId: string): void {
  writeFileSync(file(w, kernelId, 'home/go'), '');
}

/** The job runs, and the agent has kept that it ordered it. */
async function begun(w: AgentWorld, kernelId: string): Promise<void> {
  await waitFor(() => existsSync(file(w, kernelId, 'home/begun')) && existsSync(file(w, kernelId, 'batch.json')), {
    what: 'the job has begun',
  });
}

async function ended(w: AgentWorld, kernelId: string): Promise<void> {
  await waitFor(() => readFileSync(file(w, kernelId, 'run/runs/batch-job.jsonl'), 'utf8').includes('"finished"'), {
    what: 'the job has ended',
  });
}
