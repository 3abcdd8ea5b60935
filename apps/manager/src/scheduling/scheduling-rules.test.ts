import { openEgress, type ResourceGroupOptionsInput, resourceGroupOptionsSchema } from '@backend.ai/contract';
import { expect, it } from 'vitest';
import { toResourceGroup } from './scheduling-rules.ts';

const groupWith = (options: ResourceGroupOptionsInput) =>
  toResourceGroup({ name: 'default', scheduler: 'fifo', options, egress: openEgress });

type Changed = Omit<Required<ResourceGroupOptionsInput>, 'preemption' | 'fairShare'> & {
  readonly preemption: Required<NonNullable<ResourceGroupOptionsInput['preemption']>>;
  readonly fairShare: Required<NonNullable<ResourceGroupOptionsInput['fairShare']>>;
};

/** Each option with something else than its default. */
const changed: Changed = {
  allowedSessionTypes: ['batch'],
  pendingTimeout: 7,
  attemptsBeforeGivingUp: 7,
  attemptInterval: 7,
  agentSelectionStrategy: 'concentrated',
  agentSelectionPriority: ['mem'],
  maxKernelsPerAgent: 7,
  backfill: true,
  allowFractionalResourceFragmentation: false,
  preemption: {
    enabled: true,
    order: 'newest',
    mode: 'reschedule',
    minRuntime: 7,
    victimScope: 'domain',
    preemptiblePriority: 7,
  },
  fairShare: { halfLifeDays: 8, lookbackDays: 9, defaultWeight: 7, slotWeights: { cpu: 7 } },
};

/** Looked at when a session is made, and when a kernel is started. */
const notOfTheScheduler = ['allowedSessionTypes', 'allowFractionalResourceFragmentation'];

it('each option of a group reaches the scheduler, by itself and as it was said', () => {
  const { preemption, fairShare, ...plain } = changed;
  const each = <Name extends string>(name: Name, parts: object) =>
    Object.entries(parts).map(([part, value]): [string, object] => [`${name}.${part}`, { [name]: { [part]: value } }]);
  const single: [string, ResourceGroupOptionsInput][] = [
    ...Object.entries(plain).map(([name, value]): [string, object] => [name, { [name]: value }]),
    ...each('preemption', preemption),
    ...each('fairShare', fairShare),
  ];
  const seen = new Map(single.map(([name, options]) => [name, JSON.stringify(groupWith(options))]));
  const usual = JSON.stringify(groupWith({}));
  expect([...seen].filter(([, group]) => group === usual).map(([name]) => name)).toEqual(notOfTheScheduler);
  expect(new Set(seen.values()).size).toBe(single.length - notOfTheScheduler.length + 1);
  expect(resourceGroupOptionsSchema.parse(changed)).toEqual(changed);
  expect(groupWith(changed)).toEqual({
    ...{ name: 'default', scheduler: 'fifo', selection: 'concentrated', slotPriority: ['mem'], backfill: true },
    ...{
      attemptsBeforeGivingUp: 7,
      attemptIntervalMs: 7_000,
      pendingTimeoutMs: 7_000,
      maxKernelsPerAgent: 7,
      fairShare,
    },
    preemption: {
      ...{ enabled: true, order: 'newest', mode: 'reschedule', minRuntimeSec: 7 },
      victimScope: 'domain',
      preemptiblePriority: 7,
    },
  });
});
