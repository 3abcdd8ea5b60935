import { expect, it } from 'vitest';
import type { AcceleratorInventory } from './accelerator-plugin.ts';
import { smallInventory } from './accelerators.test.kit.ts';
import { deviceEnvironment, type HeldDevices } from './device-environment.ts';

const gibibyte = 1024 ** 3;
const device = { ...smallInventory('cuda').devices[0]!, model: 'H200', memoryBytes: 8 * gibibyte };
const slot = smallInventory('cuda').slots[0]!;
const cuda: AcceleratorInventory = {
  ...smallInventory('cuda'),
  devices: [
    { ...device, id: 'cuda-0' },
    { ...device, id: 'cuda-1', memoryBytes: 4 * gibibyte },
  ],
  slots: [
    { ...slot, capacity: { 'cuda-0': '1' } },
    { ...slot, name: 'cuda.shares', capacity: { 'cuda-1': '10' } },
  ],
};

it('a kernel without accelerators is told so, and nothing else', () => {
  expect(deviceEnvironment([])).toEqual({ GPU_COUNT: '0', N_GPUS: '0' });
});

it('programs are told what their kernel has: kind, model and its part of the memory in MiB', () => {
  const shares = { 'cuda.device': { 'cuda-0': '1' }, 'cuda.shares': { 'cuda-1': '2.5' } };
  expect(deviceEnvironment([{ key: 'cuda', inventory: cuda, shares }])).toEqual({
    ...{ GPU_COUNT: '2', N_GPUS: '2', GPU_TYPE: 'cuda', GPU_MODEL_NAME: 'H200' },
    ...{ GPU_CONFIG: '0:8192,1:1024', TF_GPU_MEMORY_ALLOC: '1024' },
  });
});

it('memory that is not known of every device is not told', () => {
  const held: HeldDevices[] = [
    { key: 'cuda', inventory: cuda, shares: { 'cuda.device': { 'cuda-0': '1' } } },
    { key: 'npu', inventory: smallInventory('npu'), shares: { 'npu.device': { 'npu-0': '1' } } },
  ];
  expect(deviceEnvironment(held)).toEqual({
    ...{ GPU_COUNT: '2', N_GPUS: '2', GPU_TYPE: 'cuda,npu', GPU_MODEL_NAME: 'H200,Small' },
  });
});
