import type { KernelEvent } from '@backend.ai/contract';
import { expect, it } from 'vitest';
import { eventChains } from './event-chains.ts';

const event = (seq: number, kernelId: string, type: KernelEvent['type']): KernelEvent =>
  ({ seq, kernelId, type, requestId: 'r' }) as KernelEvent;
const seqs = (events: KernelEvent[]): number[][] => eventChains(events).map((chain) => chain.map(({ seq }) => seq));

it('events of each kernel stay in their order', () => {
  const events = [
    event(1, 'one', 'kernel-creating'),
    event(2, 'two', 'batch-finished'),
    event(3, 'one', 'kernel-start-failed'),
    event(4, 'two', 'kernel-terminated'),
  ];
  expect(seqs(events)).toEqual([
    [1, 3],
    [2, 4],
  ]);
});

it('a start tells of its steps, and of nothing else', () => {
  const events = [
    event(1, 'one', 'kernel-preparing'),
    event(2, 'two', 'kernel-creating'),
    event(3, 'one', 'kernel-creating'),
    event(4, 'one', 'kernel-started'),
    event(5, 'one', 'batch-finished'),
  ];
  expect(seqs(events)).toEqual([[4, 5], [2]]);
});
