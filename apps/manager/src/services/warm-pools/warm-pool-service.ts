import type {
  CallContext,
  CreateWarmPoolInput,
  ModifyWarmPoolInput,
  WarmPoolApi,
  WarmPoolShortage,
  WarmPoolView,
  WarmSlotReport,
} from '@backend.ai/contract';
import { AppError, type Clock, newId, slotsToTexts } from '@backend.ai/core';
import { sqlStateOf, sqlStates } from '@backend.ai/database';
import { explainPool, type PoolAgent, type PoolSlot, type WarmPool } from '@backend.ai/scheduler';
import type { ResourcePresetRepository } from '../../repositories/resource-presets.ts';
import type { WarmPoolRecord, WarmPoolRepository, WarmSlotRecord } from '../../repositories/warm-pools.ts';
import type { AgentDirectory } from '../agents/agent-directory.ts';
import type { ImageCatalog } from '../images/image-catalog.ts';
import { type ImageService, viewerOf } from '../images/image-service.ts';
import { decideSlots } from '../sessions/session-request.ts';
import { actorOf } from '../sessions/session-service.ts';
import { plainAmounts } from '../sessions/session-view.ts';
import { imageOf, poolLimits, toPool, toPoolAgent, toPoolSlot } from './pool-plan.ts';

export interface WarmPoolServiceOptions {
  readonly pools: WarmPoolRepository;
  readonly presets: ResourcePresetRepository;
  readonly images: ImageService;
  readonly agents: AgentDirectory;
  readonly catalog: ImageCatalog;
  readonly clock: Clock;
  /** To be called when pools are wished otherwise, or slots are not what they were. */
  readonly onChange: () => void;
}

/** The wait after a slot that failed, in milliseconds; twice as long after each that fails behind it. */
const failureBackoff = { initialMs: 1_000, maxMs: 300_000 };

/** Warm pools: what superadmins wish, and what agents tell of their slots. */
export class WarmPoolService implements WarmPoolApi {
  readonly #options: WarmPoolServiceOptions;

  constructor(options: WarmPoolServiceOptions) {
    this.#options = options;
  }

  async list(): Promise<WarmPoolView[]> {
    const { pools, agents, catalog, clock } = this.#options;
    const [records, slots, known] = await Promise.all([pools.list(), pools.slots(), agents.list()]);
    const { images } = await catalog.known();
    const [there, held] = [known.map(toPoolAgent), slots.map(toPoolSlot)];
    return records.map((record) => {
      const pool = toPool(record, imageOf(record, images));
      return { ...toView(record, slots), shortage: shortageOf(pool, there, held, clock.now()) };
    });
  }

  async create(input: CreateWarmPoolInput, ctx: CallContext): Promise<WarmPoolView> {
    const { pools, images, agents, onChange } = this.#options;
    const { name, resourceGroup, size } = input;
    const resolved = await images.resolve(input.image, input.architecture, viewerOf(actorOf(ctx)));
    const resources = input.preset === undefined ? input.resources : await this.#presetOf(input.preset, resourceGroup);
    // As for a session that asks for the same: else none would ever suit.
    const request = {
      resources: resources ?? {},
      resourceOpts: {},
      clusterMode: 'single-node',
      clusterSize: 1,
    } as const;
    const { slots, shmem } = decideSlots(request, resolved, (await agents.known()).slotNames);
    const { name: image, architecture } = resolved.image;
    try {
      await pools.create({
        ...{ id: newId(), name, resourceGroup, image, architecture, size },
        slots: slotsToTexts(slots),
        shmem: shmem === null ? null : Number(shmem),
      });
    } catch (cause) {
      if (sqlStateOf(cause) === sqlStates.uniqueViolation) {
        throw new AppError('object-exists', `There is a warm pool "${name}" already.`, { cause });
      }
      if (sqlStateOf(cause) === sqlStates.foreignKeyViolation) {
        throw new AppError('object-not-found', `There is no resource group "${resourceGroup}".`, { cause });
      }
      throw cause;
    }
    onChange();
    return await this.#get(name);
  }

  async modify({ name, size }: ModifyWarmPoolInput): Promise<WarmPoolView> {
    if (!(await this.#options.pools.resize(name, size))) absent(name);
    this.#options.onChange();
    return await this.#get(name);
  }

  async delete({ name }: { readonly name: string }): Promise<void> {
    if (!(await this.#options.pools.delete(name))) absent(name);
    this.#options.onChange();
  }

  /** What an agent tells of all its slots. */
  async tell(agentId: string, reports: readonly WarmSlotReport[]): Promise<void> {
    const { changed } = await this.#options.pools.tell(agentId, reports, failureBackoff);
    if (changed > 0) this.#options.onChange();
  }

  async #get(name: string): Promise<WarmPoolView> {
    return (await this.list()).find((pool) => pool.name === name) ?? absent(name);
  }

  /** That of the group comes before one of all groups. */
  async #presetOf(name: string, resourceGroup: string): Promise<Record<string, string>> {
    const named = (await this.#options.presets.list([resourceGroup])).filter((preset) => preset.name === name);
    const preset = named.find((each) => each.resourceGroup === resourceGroup) ?? named[0];
    if (preset) return preset.resourceSlots;
    throw new AppError('object-not-found', `There is no resource preset "${name}" for the group ${resourceGroup}.`, {
      hint: 'They are listed by: ./backend.ai admin resource-preset list',
    });
  }
}

function shortageOf(
  pool: WarmPool,
  agents: readonly PoolAgent[],
  slots: readonly PoolSlot[],
  now: number,
): WarmPoolShortage[] {
  const lacks = slots.filter(({ poolId }) => poolId === pool.poolId).length < pool.size;
  if (lacks && !agents.some(({ resourceGroup }) => resourceGroup === pool.resourceGroup)) {
    return [{ code: 'no-agents', agents: [] }];
  }
  const found = explainPool(pool, agents, slots, now, poolLimits);
  return [...found].map(([code, ids]) => ({ code, agents: ids }));
}

function toView(pool: WarmPoolRecord, slots: readonly WarmSlotRecord[]): Omit<WarmPoolView, 'shortage'> {
  const { name, resourceGroup, image, architecture, size, failing } = pool;
  const isoOf = (at: number): string => new Date(at).toISOString();
  const own = slots.filter(({ poolId }) => poolId === pool.id);
  const agents: Record<string, number> = {};
  for (const { agentId } of own) agents[agentId] = (agents[agentId] ?? 0) + 1;
  const ready = own.filter(({ status }) => status === 'ready').length;
  return {
    ...{ name, resourceGroup, image, architecture, size },
    resources: plainAmounts(pool.slots),
    ...{ ready, starting: own.length - ready, agents },
    failures: Math.max(0, ...failing.map(({ failures }) => failures)),
    retryAt: failing.length === 0 ? null : isoOf(Math.min(...failing.map(({ retryAt }) => retryAt))),
    lastError: failing[0]?.error ?? null,
    failing: failing.map(({ agentId: agent, failures, retryAt, error }) => ({
      ...{ agent, failures, error },
      retryAt: isoOf(retryAt),
    })),
  };
}

function absent(name: string): never {
  throw new AppError('object-not-found', `There is no warm pool "${name}".`, {
    hint: 'They are listed by: ./backend.ai admin warm-pool list',
  });
}
