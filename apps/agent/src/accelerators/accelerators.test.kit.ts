import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '@backend.ai/core';
import { silentLogger } from '@backend.ai/telemetry';
import { onTestFinished } from 'vitest';
import type { AcceleratorInventory, AcceleratorPlugin, PluginContext } from './accelerator-plugin.ts';

/** A folder that goes with the test. */
export function tempFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'accelerators-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** A program in the place of one that this machine does not have. @param script For /bin/sh. */
export function writeProgram(folder: string, name: string, script: string): void {
  writeFileSync(join(folder, name), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
}

export function contextWith(path: string): PluginContext {
  return { path, clock: systemClock, logger: silentLogger };
}

/** One device of one slot, and nothing to do for it. */
export function smallPlugin(key: string, overrides: Partial<AcceleratorPlugin> = {}): AcceleratorPlugin {
  return { key, version: '1', inspect: async () => smallInventory(key), contribute: async () => ({}), ...overrides };
}

export function smallInventory(key: string): AcceleratorInventory {
  return {
    devices: [
      {
        id: `${key}-0`,
        model: 'Small',
        numaNode: 0,
        memoryBytes: null,
        processors: null,
        location: null,
        parent: null,
      },
    ],
    slots: [
      {
        name: `${key}.device`,
        type: 'count',
        division: { kind: 'discrete' },
        capacity: { [`${key}-0`]: '1' },
        title: key,
        description: key,
        unit: '',
        icon: '',
        numberFormat: { binary: false, roundLength: 0 },
      },
    ],
    exclusive: [],
    attributes: {},
  };
}
