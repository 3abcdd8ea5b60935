import {
  type CallContext,
  type CheckPresetsInput,
  type CreatePresetInput,
  type ListPresetsInput,
  type ModifyPresetInput,
  type PresetCheck,
  type PresetView,
  type ResourcePresetAdminApi,
  scopeOf,
} from '@backend.ai/contract';
import { AppError, newId, parseResourceSlots, slotsToTexts } from '@backend.ai/core';
import { sqlStateOf, sqlStates } from '@backend.ai/database';
import type { AgentRepository } from '../../repositories/agents.ts';
import type { QuotaRepository } from '../../repositories/quotas.ts';
import type { ResourceGroupRepository } from '../../repositories/resource-groups.ts';
import type { ResourcePresetRepository } from '../../repositories/resource-presets.ts';
import { actorOf } from '../sessions/session-service.ts';
import { checkPresets } from './check-presets.ts';

export interface ResourcePresetOptions {
  readonly presets: ResourcePresetRepository;
  readonly groups: ResourceGroupRepository;
  readonly quotas: QuotaRepository;
  readonly agents: AgentRepository;
}

export class ResourcePresetService {
  readonly #options: ResourcePresetOptions;

  constructor(options: ResourcePresetOptions) {
    this.#options = options;
  }

  async list({ resourceGroup }: ListPresetsInput): Promise<PresetView[]> {
    return await this.#options.presets.list(resourceGroup === undefined ? [] : [resourceGroup]);
  }

  /** What the caller could start now. @throws AppError `object-not-found` for a project or group that is not the caller's */
  async check({ resourceGroup, project }: CheckPresetsInput, ctx: CallContext): Promise<PresetCheck> {
    const { presets, groups, quotas, agents } = this.#options;
    const actor = actorOf(ctx);
    const projects = await groups.projects(scopeOf(actor, 'session:create'), project);
    const found = projects.length === 1 ? projects[0] : projects.find(({ name }) => name === 'default');
    if (!found) {
      throw new AppError('object-not-found', `There is no project ${project ? `"${project}" ` : ''}for you.`, {
        hint: 'Name one of yours with --group; they are listed by: ./backend.ai admin group list',
      });
    }
    const usable = (await groups.usable({ ...actor, domain: found.domain }, [found.id])).map(({ name }) => name);
    if (resourceGroup !== undefined && !usable.includes(resourceGroup)) {
      throw new AppError('object-not-found', `There is no resource group "${resourceGroup}" for you.`);
    }
    const considered = resourceGroup === undefined ? usable : [resourceGroup];
    const { accessKey, userId } = actor;
    return checkPresets({
      presets: await presets.list(considered),
      quotas: await quotas.of({ accessKey, userId, projectId: found.id, domain: found.domain }),
      groups: considered,
      agents: await agents.list(),
    });
  }

  readonly admin: ResourcePresetAdminApi = {
    list: () => this.#options.presets.list(),
    create: (input) => this.#create(input),
    modify: (input) => this.#modify(input),
    delete: async ({ id }) => {
      if (!(await this.#options.presets.delete(id))) absent(id);
    },
  };

  async #create(input: CreatePresetInput): Promise<PresetView> {
    const { name, resourceGroup, sharedMemory } = input;
    const values = { name, resourceGroup, sharedMemory, resourceSlots: presetAmounts(input.resourceSlots) };
    try {
      return await this.#options.presets.create(newId(), values);
    } catch (cause) {
      if (sqlStateOf(cause) === sqlStates.foreignKeyViolation) {
        throw new AppError('object-not-found', `There is no resource group "${resourceGroup}".`, { cause });
      }
      throw taken(cause, name);
    }
  }

  async #modify({ id, ...input }: ModifyPresetInput): Promise<PresetView> {
    const { resourceSlots, ...rest } = input;
    try {
      const values = { ...rest, ...(resourceSlots ? { resourceSlots: presetAmounts(resourceSlots) } : {}) };
      return (await this.#options.presets.modify(id, values)) ?? absent(id);
    } catch (cause) {
      throw taken(cause, input.name ?? id);
    }
  }
}

/** Slots may be of agents that are to come. */
export function presetAmounts(slots: CreatePresetInput['resourceSlots']): Record<string, string> {
  return slotsToTexts(parseResourceSlots(slots));
}

function taken(cause: unknown, name: string): unknown {
  if (sqlStateOf(cause) !== sqlStates.uniqueViolation) return cause;
  return new AppError('object-exists', `There is a resource preset "${name}" there already.`, { cause });
}

function absent(id: string): never {
  throw new AppError('object-not-found', `There is no resource preset ${id}.`);
}
