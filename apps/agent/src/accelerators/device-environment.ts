import type { AcceleratorInventory, DeviceShares } from './accelerator-plugin.ts';
import { devicesIn } from './accelerator-plugin.ts';

/** Devices that a kernel has of one plugin. */
export interface HeldDevices {
  /** The first part of its slots: `cuda`. */
  readonly key: string;
  readonly inventory: AcceleratorInventory;
  /** Never empty. */
  readonly shares: DeviceShares;
}

const mebibyte = 1024 ** 2;

/**
 * What programs read of the accelerators of their kernel, in the words of the original. Memory is what the kernel has a share
 * in, and is told where that of every device is known.
 */
export function deviceEnvironment(held: readonly HeldDevices[]): Record<string, string> {
  const devices = held.flatMap(({ inventory, shares }) =>
    devicesIn(shares).map((id) => ({ ...modelOf(inventory, id), share: shareOf(inventory, shares, id) })),
  );
  const count = String(devices.length);
  const counted = { GPU_COUNT: count, N_GPUS: count };
  if (devices.length === 0) return counted;
  const named = {
    GPU_TYPE: held.map(({ key }) => key).join(','),
    GPU_MODEL_NAME: [...new Set(devices.map(({ model }) => model))].filter(Boolean).join(','),
  };
  const memory = devices.map(({ memoryBytes, share }) =>
    memoryBytes === null ? null : Math.floor((memoryBytes * share) / mebibyte),
  );
  const known = memory.filter((amount) => amount !== null);
  if (known.length < memory.length) return { ...counted, ...named };
  return {
    ...{ ...counted, ...named },
    GPU_CONFIG: known.map((amount, index) => `${index}:${amount}`).join(','),
    // One limit for each of them: what is too much for one is for no other.
    TF_GPU_MEMORY_ALLOC: String(Math.min(...known)),
  };
}

function modelOf({ devices }: AcceleratorInventory, id: string): { model: string; memoryBytes: number | null } {
  const { model = '', memoryBytes = null } = devices.find((device) => device.id === id) ?? {};
  return { model, memoryBytes };
}

/** Of a whole device: 1. */
function shareOf({ slots }: AcceleratorInventory, shares: DeviceShares, id: string): number {
  for (const { name, capacity } of slots) {
    const [amount, all] = [shares[name]?.[id], capacity[id]];
    if (amount !== undefined && all !== undefined) return Math.min(1, Number(amount) / Number(all));
  }
  return 1;
}
