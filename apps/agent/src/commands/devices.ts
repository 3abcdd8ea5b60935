import type { Writable } from 'node:stream';
import { writeTable } from '@backend.ai/cli-kit';
import { formatBinarySize } from '@backend.ai/core';
import type { AgentStatusView } from '../agent-status.ts';

/** One accelerator, as it is shown. */
export interface DeviceRow {
  readonly device: string;
  readonly model: string;
  readonly numaNode: number | null;
  readonly memoryBytes: number | null;
  readonly slot: string;
  readonly used: string;
  readonly capacity: string;
}

/** A device that belongs to no slot cannot be used by anybody, and is left out. */
export function devicesOf({
  heldDevices,
  accelerators,
}: Pick<AgentStatusView, 'heldDevices' | 'accelerators'>): DeviceRow[] {
  return accelerators.flatMap(({ devices, slots }) =>
    slots.flatMap(({ name: slot, capacity }) =>
      devices.flatMap(({ id, model, numaNode, memoryBytes }) => {
        const share = capacity[id];
        if (share === undefined) return [];
        const used = heldDevices[slot]?.[id] ?? '0';
        return [{ device: id, model, numaNode, memoryBytes, slot, used, capacity: share }];
      }),
    ),
  );
}

export function writeDevices(output: Writable, devices: readonly DeviceRow[]): void {
  writeTable(
    output,
    ['device', 'model', 'node', 'memory', 'slot', 'in use', 'capacity'],
    devices.map(({ device, model, numaNode, memoryBytes, slot, used, capacity }) => [
      ...[device, model, numaNode === null ? '-' : String(numaNode)],
      ...[memoryBytes === null ? '-' : formatBinarySize(memoryBytes), slot, used, capacity],
    ]),
  );
}
