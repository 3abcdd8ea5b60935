import type { Socket } from 'node:net';
import { terminalSchema } from '@backend.ai/contract';
import { connectDataPort, encodeTerminalFrame, TerminalFrames } from '@backend.ai/rpc';
import { waitFor } from '@backend.ai/testing';
import { expect, it } from 'vitest';
import { agentWorld, codeOf, type StartedAgent, startKernel } from './agent-world.ts';

/** A connection to a terminal through the data port. */
async function look({ api }: StartedAgent, kernelId: string): Promise<{ socket: Socket; seen: () => string }> {
  const transfer = { kind: 'terminal', ...terminalSchema.parse({}) } as const;
  const { socket } = await connectDataPort(await api.openTransfer.mutate({ kernelId, transfer }));
  const frames = new TerminalFrames();
  let text = '';
  socket.on('data', (chunk: Buffer) => {
    for (const frame of frames.push(chunk) ?? []) text += frame.kind === 'output' ? frame.data.toString() : '';
  });
  socket.on('error', () => {});
  return { socket, seen: () => text };
}

const type = (socket: Socket, text: string): boolean =>
  socket.write(encodeTerminalFrame({ kind: 'input', data: Buffer.from(text) }));

it('a terminal goes on while its agent is started again', async () => {
  const w = await agentWorld({ allowUnisolated: true });
  const first = await w.startAgent();
  const { kernelId } = await startKernel(w, first.api);
  const before = await look(first, kernelId);
  type(before.socket, 'secret=kept; echo up-$((1 + 1)); pwd\n');
  await waitFor(() => before.seen().includes('up-2') && before.seen().includes('/home/work'));
  await first.client.close();
  await first.agent.close();
  const second = await w.startAgent();
  const after = await look(second, kernelId);
  await waitFor(() => after.seen().includes('up-2'));
  type(after.socket, 'echo "<$secret>"\n');
  await waitFor(() => after.seen().includes('<kept>'));
  after.socket.destroy();
});

it('a terminal ends with its kernel', async () => {
  const w = await agentWorld({ allowUnisolated: true });
  const started = await w.startAgent();
  const { kernelId } = await startKernel(w, started.api);
  const { socket, seen } = await look(started, kernelId);
  type(socket, 'nohup sleep 1000 & echo up-$((1 + 1))\n');
  await waitFor(() => seen().includes('up-2'));
  await started.api.destroyKernel.mutate({ kernelId, reason: 'user-requested', forced: false });
  await w.gateway.waitForEvent(kernelId, 'kernel-terminated');
  await waitFor(() => socket.destroyed || socket.readableEnded);
  await w.expectNoRemains(kernelId);
  const again = started.api.openTransfer.mutate({
    kernelId,
    transfer: { kind: 'terminal', ...terminalSchema.parse({}) },
  });
  expect(await codeOf(again)).toBe('kernel-not-found');
});
