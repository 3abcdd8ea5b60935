import type { Clock } from '@backend.ai/core';
import { slotsFromTexts } from '@backend.ai/core';
import {
  type AgentSnapshot,
  decayedUsage,
  type FairShareUsage,
  fairShareDefaults,
  type Owner,
  type Quota,
  type ResourceGroup,
  type RunningSession,
  type Snapshot,
  type WarmSlot,
} from '@backend.ai/scheduler';
import { markOf, type PendingRecord, type QueueMarks, type QueueRepository } from '../repositories/queue.ts';
import type { QuotaRepository } from '../repositories/quotas.ts';
import type { ResourceGroupRepository } from '../repositories/resource-groups.ts';
import type { DailyUsage, UsageRepository } from '../repositories/usage.ts';
import type { WarmPoolRepository } from '../repositories/warm-pools.ts';
import type { AgentDirectory } from '../services/agents/agent-directory.ts';
import { toAgentSnapshot } from '../services/agents/agent-snapshot.ts';
import { Swarms } from '../services/agents/swarms.ts';
import { toWarmSlot } from '../services/warm-pools/warm-key.ts';
import { toQuota, toResourceGroup, toRunningSession } from './scheduling-rules.ts';

export interface SchedulingSources {
  readonly queue: QueueRepository;
  readonly groups: ResourceGroupRepository;
  readonly quotas: QuotaRepository;
  readonly usage: UsageRepository;
  readonly warmPools: WarmPoolRepository;
  readonly directory: AgentDirectory;
  readonly clock: Clock;
}

/** Usage of days changes little in this time. */
const usageKeptMs = 300_000;

export interface SchedulingRules {
  readonly groups: readonly ResourceGroup[];
  readonly quotas: readonly Quota[];
  readonly fairShares: readonly FairShareUsage[];
}

/** What the scheduler decides upon, from the database, each part by itself. */
export class SchedulingReader {
  readonly #sources: SchedulingSources;
  #marks: QueueMarks | undefined;
  /** Everybody whose limits were read, by key. */
  readonly #owners = new Map<string, Owner>();
  #usage: { readonly at: number; readonly lookbackDays: number; readonly daily: readonly DailyUsage[] } | undefined;

  constructor(sources: SchedulingSources) {
    this.#sources = sources;
  }

  /** The parts of what is known that somebody else has changed, or nobody told of. */
  async changed({ pending, running }: Snapshot): Promise<ReadonlyArray<'waiting' | 'cluster' | 'rules'>> {
    const before = this.#marks;
    const [waiting, holding] = [markOf(pending), markOf(running)];
    const marks = await this.#sources.queue.marks();
    this.#marks = marks;
    const parts: Array<'waiting' | 'cluster' | 'rules'> = [];
    if (marks.waiting !== waiting) parts.push('waiting');
    if (marks.holding !== holding || marks.agents !== before?.agents) parts.push('cluster');
    if (marks.rules !== before?.rules || this.#usageIsOld()) parts.push('rules');
    return parts;
  }

  forgetUsage(): void {
    this.#usage = undefined;
  }

  /** Whether its limits are among those that were read last. */
  knowsOwner(owner: Owner): boolean {
    return this.#owners.has(ownerKey(owner));
  }

  /** @param sessionIds Only those of them that wait; all when absent */
  async pending(sessionIds?: readonly string[]): Promise<PendingRecord[]> {
    return await this.#sources.queue.pending(sessionIds);
  }

  /**
   * Agents first: what ends in between then counts as used until the next look, and never as free twice.
   */
  async cluster(): Promise<{ agents: readonly AgentSnapshot[]; running: readonly RunningSession[] }> {
    const { directory, queue } = this.#sources;
    const warmSlots = await this.warmSlots();
    const records = (await directory.reload()).list;
    const running = (await queue.holding()).map(toRunningSession);
    const kernels = new Map<string, number>();
    for (const session of running) {
      if (session.awaitsVictims) continue;
      for (const { agentId } of session.kernels) kernels.set(agentId, (kernels.get(agentId) ?? 0) + 1);
    }
    const swarms = new Swarms(records);
    const agents = records.map((record) => {
      const kernelCount = kernels.get(record.id);
      const slots = warmSlots.get(record.id);
      const clusterNetwork = swarms.clusterNetworkOf(record);
      return {
        ...toAgentSnapshot(record),
        ...(clusterNetwork === undefined ? {} : { clusterNetwork }),
        ...(kernelCount === undefined ? {} : { kernelCount }),
        ...(slots ? { warmSlots: slots } : {}),
      };
    });
    return { agents, running };
  }

  /** By agent. */
  async warmSlots(): Promise<Map<string, WarmSlot[]>> {
    const slots = new Map<string, WarmSlot[]>();
    for (const record of await this.#sources.warmPools.slots()) {
      const slot = toWarmSlot(record);
      const others = slots.get(record.agentId);
      if (others) others.push(slot);
      else slots.set(record.agentId, [slot]);
    }
    return slots;
  }

  async rules(): Promise<SchedulingRules> {
    const { groups, quotas } = this.#sources;
    const options = (await groups.schedulingOptions()).map(toResourceGroup);
    for (const owner of await quotas.liveOwners()) this.#owners.set(ownerKey(owner), owner);
    const limits = await quotas.limits([...this.#owners.values()]);
    return { groups: options, quotas: limits.map(toQuota), fairShares: await this.#fairShares(options) };
  }

  #usageIsOld(): boolean {
    return this.#usage !== undefined && this.#sources.clock.monotonic() - this.#usage.at >= usageKeptMs;
  }

  async #fairShares(groups: readonly ResourceGroup[]): Promise<FairShareUsage[]> {
    const sharing = groups.filter(({ scheduler }) => scheduler === 'fair-share');
    if (sharing.length === 0) {
      this.#usage = undefined;
      return [];
    }
    const days = sharing.map(({ fairShare }) => fairShare?.lookbackDays ?? fairShareDefaults.lookbackDays);
    const lookbackDays = Math.ceil(Math.max(...days));
    if (!this.#usage || this.#usageIsOld() || this.#usage.lookbackDays < lookbackDays) {
      const daily = await this.#sources.usage.dailyUsage(lookbackDays);
      this.#usage = { at: this.#sources.clock.monotonic(), lookbackDays, daily };
    }
    const { daily } = this.#usage;
    return sharing.flatMap(({ name, fairShare }) => {
      const scopes = new Map<string, DailyUsage[]>();
      for (const day of daily) {
        if (day.resourceGroup !== name) continue;
        const key = `${day.scope} ${day.id}`;
        scopes.set(key, [...(scopes.get(key) ?? []), day]);
      }
      return [...scopes.values()].map((buckets) => ({
        resourceGroup: name,
        scope: buckets[0]!.scope,
        id: buckets[0]!.id,
        usage: decayedUsage(
          buckets.map(({ daysAgo, used }) => ({ daysAgo, usage: slotsFromTexts(used) })),
          fairShare,
        ),
      }));
    });
  }
}

const ownerKey = ({ keypair, user, project, domain }: Owner): string => [keypair, user, project, domain].join(' ');
