import { type DeviceContribution, noContribution } from '../accelerators/accelerator-plugin.ts';
import type { Allocation } from './inventory.ts';

/** What one kernel has of the machine, for those who make it. Plain data. */
export interface KernelResources {
  /** Stands in the facts of the kernel. */
  readonly allocation: Allocation;
  /** How it gets at its accelerators; known once its devices have been attached. */
  devices: DeviceContribution;
}

export function kernelResources(allocation: Allocation): KernelResources {
  return { allocation, devices: noContribution };
}

/** Of a kernel of which nobody wrote down what it has. */
export const unknownAllocation: Allocation = { slots: {}, unified: {}, cpus: null };

/**
 * /home/config/resource.txt: what a kernel has, in lines of `NAME=value`. Readers pass over names they do not know, and
 * lines may be missing.
 * @param slots What was asked for, as decimal texts.
 */
export function resourceText(
  slots: Readonly<Record<string, string>>,
  { allocation, devices }: KernelResources,
): string {
  const shares = Object.entries(allocation.slots).map(
    ([slot, amounts]) =>
      [
        `${slot.toUpperCase()}_SHARES`,
        Object.entries(amounts)
          .map(([id, amount]) => `${id}:${amount}`)
          .join(','),
      ] as const,
  );
  const lines = [
    ['MOUNTS', ''],
    ['SLOTS', JSON.stringify(slots)],
    ['UNIFIED_DEVICES', JSON.stringify(allocation.unified)],
    ...shares,
    ...Object.entries(devices.resourceLines),
  ];
  return lines.map(([name, value]) => `${name}=${value}\n`).join('');
}
