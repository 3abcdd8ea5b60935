import type { PresetCheck, PresetView, Room } from '@backend.ai/contract';
import {
  addSlots,
  amountToText,
  fits,
  type ResourceSlots,
  slotsFromTexts,
  slotsToTexts,
  subtractSlots,
} from '@backend.ai/core';
import type { AgentRecord } from '../../repositories/agents.ts';
import type { QuotaKind, QuotaRecord } from '../../repositories/quotas.ts';

/** Pure: what is left of every limit, and which presets fit into all of them and on one agent. */

type Limits = Pick<QuotaRecord, 'limits' | 'closed' | 'used'>;
type Remaining = Readonly<Record<string, bigint | 'Infinity'>>;

export function checkPresets(facts: {
  readonly presets: readonly PresetView[];
  readonly quotas: readonly QuotaRecord[];
  /** Names of groups that may be used. */
  readonly groups: readonly string[];
  readonly agents: readonly AgentRecord[];
}): PresetCheck {
  const { presets, quotas, groups, agents } = facts;
  const slots = new Set([
    ...agents.flatMap((agent) => Object.keys(agent.capacity)),
    ...presets.flatMap((preset) => Object.keys(preset.resourceSlots)),
    ...quotas.flatMap((quota) => Object.keys(quota.limits)),
  ]);
  // What is not ALIVE, or kept from new sessions, has nothing to give, however much it had.
  const open = agents.filter((agent) => agent.status === 'ALIVE' && agent.schedulable);
  const free = new Map(
    groups.map((group) => {
      const members = open.filter((agent) => agent.resourceGroup === group);
      return [group, members.map((agent) => subtractSlots(slotsFromTexts(agent.capacity), slotsFromTexts(agent.used)))];
    }),
  );
  const full = quotas.some(({ maxSessions, sessions }) => maxSessions > 0 && sessions >= maxSessions);
  const limits = quotas.map((quota) => remainingOf(quota, slots));
  const room = (kind: QuotaKind): Room =>
    roomOf(
      quotas.find((quota) => quota.kind === kind),
      slots,
    );
  return {
    keypair: room('keypair'),
    user: room('user'),
    project: room('project'),
    domain: room('domain'),
    resourceGroups: Object.fromEntries(
      groups.map((group) => {
        const members = open.filter((agent) => agent.resourceGroup === group);
        const using = members.reduce<ResourceSlots>((sum, agent) => addSlots(sum, slotsFromTexts(agent.used)), {});
        const remaining = (free.get(group) ?? []).reduce<ResourceSlots>(
          (sum, left) => addSlots(sum, atLeastNothing(left)),
          {},
        );
        return [group, { using: slotsToTexts(using), remaining: slotsToTexts(remaining) }];
      }),
    ),
    presets: presets.map((preset) => {
      const wanted = slotsFromTexts(preset.resourceSlots);
      const within = !full && limits.every((left) => fitsInto(wanted, left));
      const allocatableIn = groups.filter(
        (group) =>
          within &&
          (preset.resourceGroup === null || preset.resourceGroup === group) &&
          (free.get(group) ?? []).some((left) => fits(wanted, left)),
      );
      return { ...preset, allocatable: allocatableIn.length > 0, allocatableIn };
    }),
  };
}

function remainingOf({ limits, closed, used }: Limits, slots: Iterable<string>): Remaining {
  const held = slotsFromTexts(used);
  return Object.fromEntries(
    [...slots].map((slot) => {
      const limit = limits[slot] ?? (closed ? '0' : 'Infinity');
      if (limit === 'Infinity') return [slot, 'Infinity'];
      const left = (slotsFromTexts({ [slot]: limit })[slot] ?? 0n) - (held[slot] ?? 0n);
      return [slot, left > 0n ? left : 0n];
    }),
  );
}

function fitsInto(wanted: ResourceSlots, left: Remaining): boolean {
  return Object.entries(wanted).every(([slot, amount]) => {
    const most = left[slot] ?? 0n;
    return most === 'Infinity' || amount <= most;
  });
}

function roomOf(quota: QuotaRecord | undefined, slots: Iterable<string>): Room {
  const known: Limits = quota ?? { limits: {}, closed: false, used: {} };
  const names = [...slots];
  const limits = names.map((slot) => [slot, known.limits[slot] ?? (known.closed ? '0' : 'Infinity')]);
  const using = names.map((slot) => [slot, known.used[slot] ?? '0']);
  const remaining = Object.entries(remainingOf(known, names)).map(([slot, left]) => [
    slot,
    left === 'Infinity' ? left : amountToText(left),
  ]);
  return {
    limits: Object.fromEntries(limits),
    using: Object.fromEntries(using),
    remaining: Object.fromEntries(remaining),
  };
}

/** Capacity may shrink below what is used. */
function atLeastNothing(slots: ResourceSlots): ResourceSlots {
  return Object.fromEntries(Object.entries(slots).map(([name, amount]) => [name, amount > 0n ? amount : 0n]));
}
