import type {
  CallContext,
  CreateWarmPoolInput,
  ModifyWarmPoolInput,
  WarmPoolApi,
  WarmPoolView,
  WarmSlotReport,
} from '@backend.ai/contract';
import { AppError, newId, slotsToTexts } from '@backend.ai/core';
import { sqlStateOf, sqlStates } from '@backend.ai/database';
import type { ResourcePresetRepository } from '../../repositories/resource-presets.ts';
import type { WarmPoolRecord, WarmPoolRepository, WarmSlotRecord } from '../../repositories/warm-pools.ts';
import type { AgentDirectory } from '../agents/agent-directory.ts';
import { type ImageService, viewerOf } from '../images/image-service.ts';
import { decideSlots } from '../sessions/session-request.ts';
import { actorOf } from '../sessions/session-service.ts';
import { plainAmounts, toIso } from '../sessions/session-view.ts';

export interface WarmPoolServiceOptions {
  readonly pools: WarmPoolRepository;
  readonly presets: ResourcePresetRepository;
  readonly images: ImageService;
  readonly agents: AgentDirectory;
  /** To be called when pools are wished otherwise, or slots are not what they were. */
  readonly onChange: () => void;
}

/** The wait after a slot that failed, in milliseconds; twice as long after each that fails behind it. */
const failureBackoff = { initialMs: 2_000, maxMs: 300_000 };

/** Warm pools: what superadmins wish, and what agents tell of their slots. */
export class WarmPoolService implements WarmPoolApi {
  readonly #options: WarmPoolServiceOptions;

  constructor(options: WarmPoolServiceOptions) {
    this.#options = options;
  }

  async list(): Promise<WarmPoolView[]> {
    const { pools } = this.#options;
    const [records, slots] = await Promise.all([pools.list(), pools.slots()]);
    return records.map((pool) => toView(pool, slots));
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
    const { slots, shmem } = decideSlots(request, resolved, await agents.list());
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

function toView(pool: WarmPoolRecord, slots: readonly WarmSlotRecord[]): WarmPoolView {
  const { name, resourceGroup, image, architecture, size, failures, retryAt, lastError } = pool;
  const own = slots.filter(({ poolId }) => poolId === pool.id);
  const agents: Record<string, number> = {};
  for (const { agentId } of own) agents[agentId] = (agents[agentId] ?? 0) + 1;
  const ready = own.filter(({ status }) => status === 'ready').length;
  return {
    ...{ name, resourceGroup, image, architecture, size, failures, lastError },
    resources: plainAmounts(pool.slots),
    ...{ ready, starting: own.length - ready, agents },
    retryAt: retryAt && toIso(retryAt),
  };
}

function absent(name: string): never {
  throw new AppError('object-not-found', `There is no warm pool "${name}".`, {
    hint: 'They are listed by: ./backend.ai admin warm-pool list',
  });
}
