import type { WarmSlotSpec } from '@backend.ai/contract';
import { type Clock, newId } from '@backend.ai/core';
import { planWarmPools } from '@backend.ai/scheduler';
import type { AgentRecord } from '../repositories/agents.ts';
import type { WarmPoolRecord, WarmPoolRepository, WarmSlotRecord } from '../repositories/warm-pools.ts';
import type { AgentDirectory } from '../services/agents/agent-directory.ts';
import type { ImageCatalog } from '../services/images/image-catalog.ts';
import type { ImageSources } from '../services/images/image-sources.ts';
import {
  imageOf,
  keepsWarmSlots,
  poolLimits,
  toPool,
  toPoolAgent,
  toPoolSlot,
} from '../services/warm-pools/pool-plan.ts';
import { WarmSlotTeller, type WarmSlotTellerOptions } from './warm-slot-teller.ts';

export interface FillWarmPoolsOptions extends WarmSlotTellerOptions {
  readonly pools: WarmPoolRepository;
  readonly directory: AgentDirectory;
  readonly catalog: ImageCatalog;
  readonly imageSources: ImageSources;
  readonly clock: Clock;
  /** Asks for another pass, under a request id of its own. */
  readonly again: () => void;
}

/** After a slot was taken, in milliseconds: the session that took it runs before another container is made. */
const refillAfterMs = 100;

/**
 * Reserves room for the slots that pools lack, gives up those that they do not need, and tells each agent which slots it is
 * to have. Agents report what became of that by themselves.
 */
export class FillWarmPools {
  readonly #options: FillWarmPoolsOptions;
  readonly #teller: WarmSlotTeller;
  #cancelRefill: (() => void) | undefined;
  #cancelRetry: (() => void) | undefined;

  constructor(options: FillWarmPoolsOptions) {
    this.#options = options;
    this.#teller = new WarmSlotTeller(options);
  }

  async run(epoch: number): Promise<void> {
    const { pools, directory, clock } = this.#options;
    const [records, present] = await Promise.all([pools.list(), pools.slots()]);
    const isIdle = records.length === 0 && present.length === 0;
    const agents = (isIdle ? await directory.known() : await directory.reload()).list;
    let slots = present;
    if (!isIdle) {
      const wished = await this.#wishedOf(records);
      const plan = planWarmPools(
        wished.map(({ pool }) => pool),
        agents.map(toPoolAgent),
        present.map(toPoolSlot),
        clock.now(),
        poolLimits,
      );
      await pools.remove(plan.remove, epoch);
      const originOf = new Map(wished.map(({ pool, origin }) => [pool.poolId, origin]));
      await pools.reserve(
        plan.create.map((slot) => ({ ...slot, id: newId(), origin: originOf.get(slot.poolId) ?? null })),
        epoch,
      );
      if (plan.remove.length + plan.create.length > 0) slots = await pools.slots();
      this.#retryAt(wished.flatMap(({ pool }) => [...(pool.failing?.values() ?? [])].map(({ retryAt }) => retryAt)));
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

  /** Agents on which slots failed are tried again at their time. */
  #retryAt(moments: readonly number[]): void {
    const { clock, again } = this.#options;
    this.#cancelRetry?.();
    const now = clock.now();
    const next = Math.min(...moments.filter((moment) => moment > now));
    this.#cancelRetry = Number.isFinite(next) ? clock.setTimer(next - now + 1, again) : undefined;
  }

  stop(): void {
    this.#cancelRefill?.();
    this.#cancelRetry?.();
    this.#cancelRefill = undefined;
    this.#cancelRetry = undefined;
    this.#teller.stop();
  }

  async #wishedOf(records: readonly WarmPoolRecord[]) {
    const { images } = await this.#options.catalog.known();
    return records.map((record) => {
      const image = imageOf(record, images);
      const origin =
        image && (({ registryId, digest, manifestDigest }) => ({ registryId, digest, manifestDigest }))(image);
      return { pool: toPool(record, image), origin: origin ?? null };
    });
  }

  /** Those with slots hear of them again and again, and report in return: what was missed is found out. */
  async #tellAll(agents: readonly AgentRecord[], slots: readonly WarmSlotRecord[], epoch: number): Promise<void> {
    const { pools } = this.#options;
    this.#teller.forgetOthers(new Set(agents.map(({ id }) => id)));
    const holders = new Set(slots.map(({ agentId }) => agentId));
    const concerned = agents.filter(
      (agent) =>
        agent.status === 'ALIVE' &&
        keepsWarmSlots(agent) &&
        (holders.has(agent.id) || !this.#teller.isBare(agent.id, agent.bootId)),
    );
    if (concerned.length === 0) return;
    const claimed = await pools.claimed();
    for (const { id: agentId, bootId } of concerned) {
      const specs = slots.filter((slot) => slot.agentId === agentId).map((slot) => this.#specOf(slot));
      this.#teller.tell({ agentId, bootId, slots: specs, claimed: claimed.get(agentId) ?? [], epoch });
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
      ...(slot.mayScatter ? {} : { allowFractionalResourceFragmentation: false }),
      ...(slot.egress.policy === 'open' ? {} : { egress: slot.egress }),
    };
  }
}
