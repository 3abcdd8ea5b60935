import type { DeviceMeasurement } from '../accelerators/accelerator-plugin.ts';
import type { Measurement } from './metric.ts';
import type { Measurements } from './metric-histories.ts';

/**
 * The numbers of accelerators by the names that the official API has for them, such as `cuda_util` and `cuda_mem`: of all
 * devices of a plugin together, and the temperature of the warmest.
 * @param told By plugin key
 */
export function deviceMeasurements(told: ReadonlyMap<string, readonly DeviceMeasurement[]>): Measurements {
  return Object.fromEntries([...told].flatMap(([key, devices]) => Object.entries(ofOnePlugin(key, devices))));
}

function ofOnePlugin(key: string, devices: readonly DeviceMeasurement[]): Measurements {
  const utilization = known(devices, ({ utilizationPercent }) => utilizationPercent);
  const memory = known(devices, ({ memoryUsedBytes }) => memoryUsedBytes);
  const memoryTotal = known(devices, ({ memoryTotalBytes }) => memoryTotalBytes);
  const power = known(devices, ({ powerWatts }) => powerWatts);
  const temperature = known(devices, ({ temperatureCelsius }) => temperatureCelsius);
  return {
    [`${key}_util`]: gauge('percent', utilization, sum(utilization), utilization.length * 100),
    [`${key}_mem`]: gauge('bytes', memory, sum(memory), memoryTotal.length > 0 ? sum(memoryTotal) : null),
    [`${key}_power`]: gauge('Watts', power, sum(power), null),
    [`${key}_temperature`]: gauge('Celsius', temperature, Math.max(...temperature), null),
  };
}

function known(devices: readonly DeviceMeasurement[], of: (device: DeviceMeasurement) => number | null): number[] {
  return devices.map(of).filter((value) => value !== null);
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

/** Null where no device tells it. */
function gauge(unit: string, told: readonly number[], value: number, capacity: number | null): Measurement | null {
  return told.length === 0 ? null : { kind: 'gauge', unit, value, capacity };
}
