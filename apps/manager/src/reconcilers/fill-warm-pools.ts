import { agentFeatures, type WarmSlotSpec } from '@backend.ai/contract';
import { type Clock, hasCode, newId, slotsFromTexts } from '@backend.ai/core';
import { type PoolSlot, planWarmPools, type WarmPool } from '@backend.ai/scheduler';
import type { Logger } from '@backend.ai/telemetry';
import type { AgentClients } from '../clients/agent-clients.ts';
import type { AgentRecord } from '../repositories/agents.ts';
import type { ImageRecord } from '../repositories/images.ts';
import type { WarmPoolRecord, WarmPoolRepository, WarmSlotRecord } from '../repositories/warm-pools.ts';
import type { AgentDirectory } from '../services/agents/agent-directory.ts';
import { toAgentSnapshot } from '../services/agents/agent-snapshot.ts';
import type { ImageCatalog } from '../services/images/image-catalog.ts';
import type { ImageSources } from '../services/images/image-sources.ts';
import { toWarmSlot, warmKey } from '../services/warm-pools/warm-key.ts';

export interface FillWarmPoolsOptions {
  readonly pools: WarmPoolRepository;
  readonly directory: AgentDirectory;
  readonly catalog: ImageCatalog;
  readonly imageSources: ImageSources;
  readonly clients: AgentClients;
  readonly clock: Clock;
  readonly logger: Logger;
  /** An agent answers an order within this time, or is told again. */
  readonly orderDeadlineMs: number;
  /** Asks for another pass, under a request id of its own. */
  readonly again: () => void;
}

/** What one agent is told. */
interface Told {
  readonly slots: WarmSlotSpec[];
  readonly claimed: string[];
}

/** After a slot was taken, in milliseconds: the session that took it runs before another container is made. */
const refillAfterMs = 100;

/**
 * Reserves room for the slots that pools lack, gives up those that they do not need, and tells each agent which slots it is
 * to have. Agents report what became of that by themselves.
 */
export class FillWarmPools {
  readonly #options: FillWarmPoolsOptions;
  /**
   * Agents that were told in this term to keep none, each with the life in which it was told: after another start it may
   * have found one that was still being removed.
   */
  readonly #bare = new Map<string, string | null>();
  #cancelRefill: (() => void) | undefined;

  constructor(options: FillWarmPoolsOptions) {
    this.#options = options;
  }

  async run(epoch: number): Promise<void> {
    const { pools, directory, clock } = this.#options;
    const [records, present] = await Promise.all([pools.list(), pools.slots()]);
    const isIdle = records.length === 0 && present.length === 0;
    const agents = isIdle ? await directory.list() : [...(await directory.reload()).values()];
    let slots = present;
    if (!isIdle) {
      const wished = await this.#wishedOf(records);
      const plan = planWarmPools(
        wished.map(({ pool }) => pool),
        agents.map((agent) => ({ ...toAgentSnapshot(agent), keepsWarmSlots: keepsWarmSlots(agent) })),
        present.map(toPoolSlot),
        clock.now(),
      );
      await pools.remove(plan.remove, epoch);
      const originOf = new Map(wished.map(({ pool, origin }) => [pool.poolId, origin]));
      await pools.reserve(
        plan.create.map((slot) => ({ ...slot, id: newId(), origin: originOf.get(slot.poolId) ?? null })),
        epoch,
      );
      if (plan.remove.length + plan.create.length > 0) slots = await pools.slots();
    }
    await this.#tellAll(agents, slots, epoch);
  }

  /** A slot was taken, or had to go. */
  refill(): void {
    this.#cancelRefill ??= this.#options.clock.setTimer(refillAfterMs, () => {
      this.#cancelRefill = undefined;
      this.#options.again();
    });
  }

  stop(): void {
    this.#cancelRefill?.();
    this.#cancelRefill = undefined;
  }

  async #wishedOf(records: readonly WarmPoolRecord[]) {
    const { images } = await this.#options.catalog.known();
    return records.map((record) => {
      const image = images.find(
        ({ name, architecture }) => name === record.image && architecture === record.architecture,
      );
      const origin =
        image && (({ registryId, digest, manifestDigest }) => ({ registryId, digest, manifestDigest }))(image);
      return { pool: toPool(record, image), origin: origin ?? null };
    });
  }

  /** Those with slots hear of them again and again, and report in return: what was missed is found out. */
  async #tellAll(agents: readonly AgentRecord[], slots: readonly WarmSlotRecord[], epoch: number): Promise<void> {
    const known = new Set(agents.map(({ id }) => id));
    for (const id of this.#bare.keys()) if (!known.has(id)) this.#bare.delete(id);
    const holders = new Set(slots.map(({ agentId }) => agentId));
    const concerned = agents.filter(
      (agent) =>
        agent.status === 'ALIVE' &&
        keepsWarmSlots(agent) &&
        (holders.has(agent.id) || this.#bare.get(agent.id) !== agent.bootId),
    );
    if (concerned.length === 0) return;
    const claimed = await this.#options.pools.claimed();
    await Promise.all(
      concerned.map(async (agent) => {
        const specs = slots.filter(({ agentId }) => agentId === agent.id).map((slot) => this.#specOf(slot));
        await this.#tell(agent, { slots: specs, claimed: claimed.get(agent.id) ?? [] }, epoch);
      }),
    );
  }

  async #tell({ id, bootId }: AgentRecord, told: Told, epoch: number): Promise<void> {
    const { clients, orderDeadlineMs: deadlineMs, logger } = this.#options;
    const { slots, claimed } = told;
    const input = { slots, ...(claimed.length > 0 ? { claimed } : {}) };
    this.#bare.delete(id);
    try {
      await clients.call(id, (api) => api.keepWarmSlots.mutate(input, { context: { deadlineMs, epoch } }));
      if (slots.length + claimed.length === 0) this.#bare.set(id, bootId);
    } catch (error) {
      // Whoever leads now takes care of it.
      if (!hasCode(error, 'stale-epoch')) logger.warn('agent could not be told its warm slots', { agent: id, error });
    }
  }

  #specOf(slot: WarmSlotRecord): WarmSlotSpec {
    const imageSource = this.#options.imageSources.of(slot);
    return {
      slotId: slot.id,
      image: slot.image,
      ...(imageSource ? { imageSource } : {}),
      slots: slot.slots,
      ...(slot.shmem === null ? {} : { shmem: slot.shmem }),
      ...(slot.allowFractionalResourceFragmentation === false ? { allowFractionalResourceFragmentation: false } : {}),
    };
  }
}

function keepsWarmSlots({ features }: AgentRecord): boolean {
  return features.includes(agentFeatures.warmSlots);
}

function toPool(record: WarmPoolRecord, image: ImageRecord | undefined): WarmPool {
  const { id, resourceGroup, size, architecture, retryAt, restrictsEgress } = record;
  return {
    ...{ poolId: id, resourceGroup, size: restrictsEgress ? 0 : size, architecture },
    image: record.image,
    ...(image ? { fetchable: true } : {}),
    slots: slotsFromTexts(record.slots),
    key: warmKey({
      ...record,
      imageDigest: image?.digest ?? null,
      imageManifestDigest: image?.manifestDigest ?? null,
    }),
    ...(retryAt === null ? {} : { retryAt: Date.parse(retryAt) }),
  };
}

function toPoolSlot(slot: WarmSlotRecord): PoolSlot {
  const { poolId, agentId } = slot;
  return { ...toWarmSlot(slot), poolId, agentId };
}
