import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { tempDirectory } from '@backend.ai/testing';
import type { AgentOptions } from '../src/index.ts';

/** The ids of the two. */
export const gpu = (digit: number) => `c59395cd-ac91-4cd3-a1b0-3d2568aa2d0${digit}`;

/** Two simulated GPUs, each of as many shares as it is devices: one. */
export async function mockGpus(
  settings: Record<string, string> = {},
): Promise<NonNullable<AgentOptions['accelerators']>> {
  const file = join(await tempDirectory(), 'mock.toml');
  const device = (digit: number) =>
    `{ mother_uuid = "${gpu(digit)}", model_name = "GPU", numa_node = 0, subproc_count = 8, memory_size = "2g", is_mig_device = false }`;
  writeFileSync(
    file,
    `slot_name = "cuda"\ndevice_plugin_name = "CUDADevice"\ndevices = [${device(1)}, ${device(2)}]\n`,
  );
  return { plugins: ['mock'], settings: { 'mock.devices-file': file, ...settings } };
}
