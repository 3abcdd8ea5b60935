import type { KernelEvent } from '@backend.ai/contract';

/**
 * Events of one agent by kernel, each kernel's in their order: what concerns one kernel does not wait for what concerns
 * another. Steps of a start that has come to its end are left out, since that end tells of them.
 */
export function eventChains(events: readonly KernelEvent[]): KernelEvent[][] {
  const chains = new Map<string, KernelEvent[]>();
  for (const event of events) {
    const before = chains.get(event.kernelId) ?? [];
    const left = event.type === 'kernel-started' ? before.filter(({ type }) => !isStep(type)) : before;
    chains.set(event.kernelId, [...left, event]);
  }
  return [...chains.values()];
}

function isStep(type: KernelEvent['type']): boolean {
  return type === 'kernel-preparing' || type === 'kernel-creating';
}
