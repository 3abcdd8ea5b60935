import { describe, expect, it } from 'vitest';
import type { DeviceMeasurement } from '../accelerators/accelerator-plugin.ts';
import { deviceMeasurements } from './device-measurements.ts';

const device = (overrides: Partial<DeviceMeasurement> = {}): DeviceMeasurement => ({
  ...{ deviceId: 'a', utilizationPercent: 30, memoryUsedBytes: 100, memoryTotalBytes: 1_000 },
  ...{ powerWatts: 50, temperatureCelsius: 40, ...overrides },
});

describe('the numbers of accelerators', () => {
  it('are those of all devices of a plugin together, and the temperature of the warmest', () => {
    const two = [device(), device({ utilizationPercent: 80, temperatureCelsius: 70 })];
    expect(deviceMeasurements(new Map([['cuda', two]]))).toEqual({
      cuda_util: { kind: 'gauge', unit: 'percent', value: 110, capacity: 200 },
      cuda_mem: { kind: 'gauge', unit: 'bytes', value: 200, capacity: 2_000 },
      cuda_power: { kind: 'gauge', unit: 'Watts', value: 100, capacity: null },
      cuda_temperature: { kind: 'gauge', unit: 'Celsius', value: 70, capacity: null },
    });
  });

  it('count the devices that tell something, and are not known where none does', () => {
    const shared = device({ utilizationPercent: null });
    const one = deviceMeasurements(new Map([['cuda', [device(), shared]]]));
    expect(one.cuda_util).toMatchObject({ value: 30, capacity: 100 });
    const none = deviceMeasurements(new Map([['cuda', [shared]]]));
    expect(none).toMatchObject({ cuda_util: null, cuda_mem: { value: 100 } });
    expect(deviceMeasurements(new Map([['cuda', []]])).cuda_temperature).toBeNull();
  });
});
