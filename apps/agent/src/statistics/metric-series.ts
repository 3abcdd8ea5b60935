import type { KernelMeasurement, KernelReport, Metric, Metrics } from '@backend.ai/contract';
import type { LabelledValue, SeriesOptions } from '@backend.ai/runtime/metrics';

/** What is read of an agent each time that somebody looks. */
export interface MeasuredAgent {
  readonly kernels: readonly KernelReport[];
  readonly measurements: readonly KernelMeasurement[];
  readonly machine: Metrics;
}

type Of = (metric: Metric) => number;
const current: Of = (metric) => metric.current;
const seconds: Of = (metric) => metric.current / 1_000;
const ofAll: Of = (metric) => metric.sum / 1_000;
const capacity: Of = (metric) => metric.capacity ?? 0;

/** In the units of Prometheus. Those of kernels are about the ones that run at that moment and nothing else. */
const kernelSeries: ReadonlyArray<readonly [string, SeriesOptions['type'], string, Of, string]> = [
  ['cpu_seconds_total', 'counter', 'cpu_used', seconds, 'Processor time of a kernel since it started'],
  ['memory_bytes', 'gauge', 'mem', current, 'Memory that a kernel holds'],
  ['memory_limit_bytes', 'gauge', 'mem', capacity, 'Memory that a kernel was given'],
  ['io_read_bytes_total', 'counter', 'io_read', current, 'Read from disks by a kernel'],
  ['io_written_bytes_total', 'counter', 'io_write', current, 'Written to disks by a kernel'],
  ['network_received_bytes_per_second', 'gauge', 'net_rx', current, 'Received through the own network of a kernel'],
  ['network_sent_bytes_per_second', 'gauge', 'net_tx', current, 'Sent through the own network of a kernel'],
  ['scratch_bytes', 'gauge', 'io_scratch_size', current, 'Taken by the files of a kernel'],
];

const machineSeries: typeof kernelSeries = [
  ['cpu_seconds_total', 'counter', 'cpu_util', ofAll, 'Processor time of all cores since the agent measures'],
  ['memory_bytes', 'gauge', 'mem', current, 'Memory in use'],
  ['memory_capacity_bytes', 'gauge', 'mem', capacity, 'Memory that there is'],
  ['disk_bytes', 'gauge', 'disk', current, 'In use on the disk of the data directory'],
  ['disk_capacity_bytes', 'gauge', 'disk', capacity, 'What that disk has for users'],
  ['network_received_bytes_per_second', 'gauge', 'net_rx', current, 'Received through physical interfaces'],
  ['network_sent_bytes_per_second', 'gauge', 'net_tx', current, 'Sent through physical interfaces'],
];

/** Known by names of their own; what is left is about accelerators. */
const own = new Set(['cpu_util', ...[...kernelSeries, ...machineSeries].map(([, , metric]) => metric)]);
const deviceLabels = ['metric', 'unit'];

function ofDevices(metrics: Metrics): LabelledValue[] {
  return Object.entries(metrics)
    .filter(([name]) => !own.has(name))
    .map(([name, { unit, current: value }]) => ({ labels: { metric: name, unit }, value }));
}

export function agentSeries(look: () => MeasuredAgent): SeriesOptions[] {
  const labels = ['kernel', 'session'];
  const ofKernels = (values: (metrics: Metrics) => LabelledValue[]): LabelledValue[] => {
    const { kernels, measurements } = look();
    const sessions = new Map(kernels.map(({ kernelId, sessionId }) => [kernelId, sessionId as string]));
    return measurements.flatMap(({ kernelId, metrics = {} }) => {
      const session = sessions.get(kernelId);
      if (session === undefined) return [];
      return values(metrics).map(({ labels: more, value }) => ({
        labels: { kernel: kernelId, session, ...more },
        value,
      }));
    });
  };
  return [
    ...kernelSeries.map(([name, type, metric, of, help]) => ({
      ...{ name: `backend_kernel_${name}`, type, help, labels },
      collect: () => ofKernels((metrics) => valuesOf(metrics[metric], of)),
    })),
    {
      ...{ name: 'backend_kernel_device_usage', type: 'gauge', help: 'Use of accelerators by a kernel' },
      labels: [...labels, ...deviceLabels],
      collect: () => ofKernels(ofDevices),
    },
    ...machineSeries.map(([name, type, metric, of, help]) => ({
      ...{ name: `backend_machine_${name}`, type, help, labels: [] },
      collect: () => valuesOf(look().machine[metric], of),
    })),
    {
      ...{ name: 'backend_machine_device_usage', type: 'gauge', help: 'Use of all accelerators of the machine' },
      labels: deviceLabels,
      collect: () => ofDevices(look().machine),
    },
  ];
}

function valuesOf(metric: Metric | undefined, of: Of): LabelledValue[] {
  return metric ? [{ labels: {}, value: of(metric) }] : [];
}
