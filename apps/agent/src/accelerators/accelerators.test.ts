import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { AppError, parseResourceSlots, slotsToTexts, systemClock } from '@backend.ai/core';
import { collectLogs, FakeClock, waitFor } from '@backend.ai/testing';
import { describe, expect, it } from 'vitest';
import { capacityOf } from '../resources/inventory.ts';
import { plainInventory } from '../resources/machine-inventory.ts';
import type { AcceleratorPlugin } from './accelerator-plugin.ts';
import { contextWith, smallInventory, smallPlugin, tempFolder } from './accelerators.test.kit.ts';
import { Accelerators } from './accelerators.ts';
import { pluginSources } from './load-plugins.ts';

const machine = plainInventory(parseResourceSlots({ cpu: 4, mem: '1g' }));
const target = { kernelId: 'k', backend: 'process' };

function acceleratorsOf(plugins: readonly AcceleratorPlugin[], options: { clock?: FakeClock } = {}) {
  const { logger, records } = collectLogs('agent');
  const sources = plugins.map((plugin) => ({ name: plugin.key, create: async () => plugin }));
  return { records, accelerators: new Accelerators({ sources, clock: systemClock, logger, ...options }) };
}

const holding = (slots: Record<string, Record<string, string>>) => ({ slots, unified: {}, cpus: null });

describe('accelerator plugins', () => {
  it('add their slots to those of the machine', async () => {
    const { accelerators } = acceleratorsOf([smallPlugin('a'), smallPlugin('b')]);
    await accelerators.refresh();
    expect(slotsToTexts(capacityOf(accelerators.extend(machine)))).toEqual({
      ...slotsToTexts(capacityOf(machine)),
      'a.device': '1',
      'b.device': '1',
    });
  });

  it('cost their own slots only when they fail, and are asked again', async () => {
    let broken = true;
    const inspect = async () => {
      if (broken) throw new AppError('internal', 'The driver is asleep.');
      return smallInventory('a');
    };
    const { accelerators, records } = acceleratorsOf([smallPlugin('a', { inspect }), smallPlugin('b')]);
    await accelerators.refresh();
    await accelerators.refresh();
    expect(accelerators.status().map(({ state, problem }) => [state, problem])).toEqual([
      ['failed', 'The driver is asleep.'],
      ['ready', null],
    ]);
    expect(records.filter(({ msg }) => msg === 'accelerator plugin failed')).toHaveLength(1);
    broken = false;
    await accelerators.refresh();
    expect(Object.keys(capacityOf(accelerators.extend(machine)))).toContain('a.device');
  });

  it('whose devices containers request of their engine offer none where that hands none out, and say why', async () => {
    const { accelerators } = acceleratorsOf([smallPlugin('a', { requestsOfEngine: true }), smallPlugin('b')]);
    await accelerators.refresh();
    const offered = (): string[] =>
      Object.keys(capacityOf(accelerators.extend(machine))).filter((slot) => slot.includes('.'));
    accelerators.restrict('This engine does not.');
    expect(offered()).toEqual(['b.device']);
    expect(accelerators.status().map(({ state, problem }) => [state, problem])).toEqual([
      ['failed', 'This engine does not.'],
      ['ready', null],
    ]);
    accelerators.restrict(null);
    expect(offered()).toEqual(['a.device', 'b.device']);
  });

  it('that never come back are left alone after a while, and not asked again meanwhile', async () => {
    const clock = new FakeClock();
    let calls = 0;
    const inspect = () => {
      calls += 1;
      return new Promise<never>(() => {});
    };
    const { accelerators } = acceleratorsOf([smallPlugin('a', { inspect }), smallPlugin('b')], { clock });
    const refreshing = accelerators.refresh();
    await waitFor(() => calls === 1);
    await clock.advance(10_000);
    await refreshing;
    await accelerators.refresh();
    expect(calls).toBe(1);
    expect(accelerators.status().map(({ state }) => state)).toEqual(['failed', 'ready']);
    expect(accelerators.status()[0]?.problem).toContain('has not come back yet');
  });

  it.each([
    [
      'two devices alike',
      { devices: [...smallInventory('a').devices, ...smallInventory('a').devices] },
      'two devices alike',
    ],
    ['devices that are not its own', { devices: [] }, 'is no device of its own'],
    [
      'slots of the machine',
      { slots: [{ ...smallInventory('a').slots[0]!, name: 'cpu' }] },
      'offers cpu, which something else offers',
    ],
    [
      'slots of others',
      { slots: [{ ...smallInventory('a').slots[0]!, name: 'b.device' }] },
      'offers b.device, which something else',
    ],
    [
      'amounts that are none',
      { slots: [{ ...smallInventory('a').slots[0]!, capacity: { 'a-0': '-1' } }] },
      'slots.0.capacity.a-0',
    ],
  ])('that speak of %s are refused', async (_, wrong, problem) => {
    const inspect = async () => ({ ...smallInventory('a'), ...wrong });
    const { accelerators } = acceleratorsOf([smallPlugin('b'), smallPlugin('a', { inspect })]);
    await accelerators.refresh();
    await accelerators.refresh();
    expect(accelerators.status().find(({ name }) => name === 'a')?.problem).toContain(problem);
    expect(Object.keys(capacityOf(accelerators.extend(machine)))).not.toContain('a.device');
  });

  it('say together what a kernel needs, and how many devices it has', async () => {
    const { accelerators } = acceleratorsOf([
      smallPlugin('a', { contribute: async () => ({ environ: { A: '1' }, files: ['/dev/a'], groups: [7] }) }),
      smallPlugin('b', { contribute: async (shares) => ({ environ: { B: JSON.stringify(shares) }, groups: [7] }) }),
      smallPlugin('c', { contribute: async () => ({ environ: { C: '1' } }) }),
    ]);
    await accelerators.refresh();
    const allocation = holding({ cpu: { root: '1' }, 'a.device': { 'a-0': '1' }, 'b.device': { 'b-0': '1' } });
    expect(await accelerators.contribute(allocation, target)).toMatchObject({
      environ: { A: '1', B: '{"b.device":{"b-0":"1"}}', GPU_COUNT: '2', N_GPUS: '2' },
      files: ['/dev/a'],
      groups: [7],
    });
    expect([accelerators.concerns(allocation), accelerators.concerns(holding({ cpu: { root: '1' } }))]).toEqual([
      true,
      false,
    ]);
  });

  it.each([
    ['fails', async () => Promise.reject(new Error('no'))],
    ['asks for what nobody may have', async () => ({ files: ['relative'] })],
    ['names a variable that is none', async () => ({ environ: { 'A=B': '1' } })],
  ])('keep a kernel from starting when preparing its devices %s', async (_, contribute) => {
    const { accelerators } = acceleratorsOf([smallPlugin('a', { contribute })]);
    await accelerators.refresh();
    await expect(accelerators.contribute(holding({ 'a.device': { 'a-0': '1' } }), target)).rejects.toThrow(AppError);
  });

  it('measure what they can; those that cannot are left out', async () => {
    const told = {
      deviceId: 'b-0',
      utilizationPercent: 5,
      memoryUsedBytes: 1,
      memoryTotalBytes: 2,
      powerWatts: null,
      temperatureCelsius: null,
    };
    const { accelerators } = acceleratorsOf([
      smallPlugin('a', { measureDevices: async () => Promise.reject(new Error('no')) }),
      smallPlugin('b', {
        measureDevices: async () => [told],
        measureKernel: async ({ shares, pids }) => (shares['b.device'] && pids[0] === 5 ? [told] : []),
      }),
      smallPlugin('c'),
    ]);
    await accelerators.refresh();
    expect([...(await accelerators.measureDevices())]).toEqual([['b', [told]]]);
    expect([...(await accelerators.measureKernel('k', holding({ 'b.device': { 'b-0': '1' } }), () => [5]))]).toEqual([
      ['b', [told]],
    ]);
  });

  it('are in the way of nothing when the processes of a kernel cannot be found', async () => {
    const { accelerators, records } = acceleratorsOf([smallPlugin('a', { measureKernel: async () => [] })]);
    await accelerators.refresh();
    const fails = () => {
      throw new Error('Too many open files.');
    };
    expect(await accelerators.measureKernel('k', holding({ 'a.device': { 'a-0': '1' } }), fails)).toEqual(new Map());
    expect(records).toMatchObject([{ msg: 'accelerator plugin could not measure' }]);
  });

  it('refuse that an operator states an amount that they find', async () => {
    const { accelerators } = acceleratorsOf([smallPlugin('a')]);
    await accelerators.refresh();
    expect(() => accelerators.extend(plainInventory(parseResourceSlots({ 'a.device': 3 })))).toThrow(
      'is what its accelerator plugin finds',
    );
  });

  it('come from modules of the operator, too', async () => {
    const file = join(tempFolder(), 'npu.mjs');
    writeFileSync(
      file,
      `export function createAccelerator({ deviceCount }) {
        const devices = Array.from({ length: deviceCount }, (_, index) => ({ id: 'npu' + index, model: 'NPU', numaNode: null,
          memoryBytes: null, processors: null, location: null, parent: null }));
        const slot = { name: 'npu.device', type: 'unified', division: { kind: 'discrete' }, title: 'NPU', description: '', unit: '',
          icon: '', numberFormat: { binary: false, roundLength: 0 }, capacity: Object.fromEntries(devices.map(({ id }) => [id, '1'])) };
        return { key: 'npu', version: '2', inspect: async () => ({ devices, slots: [slot], exclusive: [], attributes: {} }),
          contribute: async (shares) => ({ environ: { NPUS: Object.keys(shares['npu.device']).join() } }) };
      }`,
    );
    const { logger } = collectLogs('agent');
    const sources = pluginSources({ plugins: [file], settings: { 'npu.device-count': 2 } }, contextWith(''));
    const accelerators = new Accelerators({ sources, clock: systemClock, logger });
    await accelerators.refresh();
    const extended = accelerators.extend(machine);
    expect([extended.unified, capacityOf(extended)]).toEqual([{ 'npu.device': ['npu0', 'npu1'] }, capacityOf(machine)]);
    const everybody = { slots: {}, unified: { 'npu.device': ['npu0', 'npu1'] }, cpus: null };
    expect((await accelerators.contribute(everybody, target)).environ).toMatchObject({
      NPUS: 'npu0,npu1',
      GPU_COUNT: '2',
    });
  });

  it('have names that exist, and settings that belong to one', () => {
    expect(() => pluginSources({ plugins: ['qpu'], settings: {} }, contextWith(''))).toThrow(
      'no accelerator plugin "qpu"',
    );
    for (const key of ['qpu.mode', 'mode'])
      expect(() => pluginSources({ plugins: [], settings: { [key]: 1 } }, contextWith(''))).toThrow('no such plugin');
    expect(pluginSources({ plugins: ['auto'], settings: { 'cuda.quantum': 1 } }, contextWith(tempFolder()))).toEqual(
      [],
    );
  });
});
